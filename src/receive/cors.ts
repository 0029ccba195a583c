/**
 * Cross-origin requests of browsers (the Fetch standard, "CORS protocol"). OTLP says nothing about them;
 * nothing is allowed unless the operator lists origins (SLUICE_RECEIVE_CORS_ORIGINS), and nothing is said to
 * those not listed.
 */

export type Header = readonly [name: string, value: string];

const NONE: readonly Header[] = [];
/** How long a browser may remember a preflight, seconds. */
const MAX_AGE_SECONDS = 7200;
/** Asked headers are allowed by repeating them; this much of a list is repeated at most. */
const REQUESTED_HEADERS_LENGTH_MAX = 1024;

export class Cors {
  readonly #origins: ReadonlySet<string>;
  readonly #any: boolean;

  constructor(origins: readonly string[]) {
    this.#origins = new Set(origins.map((origin) => origin.toLowerCase()));
    this.#any = this.#origins.has('*');
  }

  /** Whether preflights are answered at all. */
  get enabled(): boolean {
    return this.#origins.size > 0;
  }

  /**
   * For every answer, errors too: a page can only read what carries these. `origin` is empty when there was
   * none.
   */
  headers(origin: string): readonly Header[] {
    if (!this.enabled) return NONE;
    if (this.#any) return origin === '' ? NONE : allow('*');
    const vary: Header = ['Vary', 'Origin'];
    return this.#origins.has(origin.toLowerCase()) ? [...allow(origin), vary] : [vary];
  }

  /** For the answer to an OPTIONS request. */
  preflight(origin: string, requestedHeaders: string): readonly Header[] {
    const headers = this.headers(origin);
    const allowed = headers.some(([name]) => name === 'Access-Control-Allow-Origin');
    if (!allowed) return headers;
    const named = requestedHeaders.length > REQUESTED_HEADERS_LENGTH_MAX ? '' : requestedHeaders;
    return [
      ...headers,
      ['Access-Control-Allow-Methods', 'POST'],
      ['Access-Control-Allow-Headers', named === '' ? 'content-type, content-encoding' : named],
      ['Access-Control-Max-Age', String(MAX_AGE_SECONDS)],
    ];
  }
}

function allow(origin: string): Header[] {
  return [
    ['Access-Control-Allow-Origin', origin],
    ['Access-Control-Expose-Headers', 'Retry-After'],
  ];
}
