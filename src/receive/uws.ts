/**
 * uWebSockets.js, loaded the way this program needs it: how large headers may be is read from the environment
 * once, when its library loads. 4 KiB, its default, is less than what proxies and tokens add to a request.
 */
export const HEADER_BYTES_MAX = 16 * 1024;
process.env.UWS_HTTP_MAX_HEADERS_SIZE ??= String(HEADER_BYTES_MAX);

/** Loaded with `import()` because a static import would come before the line above. */
export const uWS = await import('uWebSockets.js');

/**
 * What is fixed inside of uWebSockets.js 20, seconds: a connection without a request, or with one that sends
 * less than 16 KiB a second, is cut by a clock of 4 s after 8 to 12 s.
 */
export const IDLE_SECONDS_MIN = 8;

/**
 * LIBUS_LISTEN_EXCLUSIVE_PORT: without it a second process would share the port. (Its types know it only as a
 * type.)
 */
const EXCLUSIVE_PORT = 1;

/** Its types lack the form of `listen` with both a host and options, which the library has. */
interface ListensExclusively {
  listen(host: string, port: number, options: number, done: (socket: ListenSocket | false) => void): unknown;
}

export type App = ReturnType<typeof uWS.App>;
export type HttpResponse = import('uWebSockets.js').HttpResponse;
export type HttpRequest = import('uWebSockets.js').HttpRequest;
export type ListenSocket = Parameters<typeof uWS.us_listen_socket_close>[0];

/** Resolves to the listening socket, or false when the address can't be had. */
export function listenExclusively(app: App, host: string, port: number): Promise<ListenSocket | false> {
  const listener: ListensExclusively = app as unknown as ListensExclusively;
  return new Promise((resolve) => {
    listener.listen(host, port, EXCLUSIVE_PORT, resolve);
  });
}
