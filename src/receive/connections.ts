/**
 * Which connections a port of node's takes: so many, so many of one address, and with TLS those that shake
 * hands. What is turned away is counted, by reason. Knows addresses with open connections only, so it is
 * bounded as those are.
 */
import type { Server, Socket } from 'node:net';
import { Server as TlsNetServer, type TLSSocket } from 'node:tls';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { showsCertificate } from './certificate.ts';
import type { Counts } from './counts.ts';

export interface ConnectionBounds {
  readonly connectionsMax: number;
  /** Of one address; 0 is any number. */
  readonly connectionsPerAddressMax: number;
}

/** Until the handshake is done, or the first request has begun. */
export const HANDSHAKE_MS_MAX = 10_000;

/** @returns the sockets that are open, for the end */
export function boundConnections(
  server: Server,
  bounds: ConnectionBounds,
  counts: Counts,
  logger: Logger,
): ReadonlySet<Socket> {
  const open = new Set<Socket>();
  const addresses = new AddressBound(bounds.connectionsPerAddressMax);
  server.maxConnections = bounds.connectionsMax;
  server.on('drop', () => counts.connectionRefused('connections'));
  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    const entered = addresses.enter(address);
    open.add(socket);
    socket.once('close', () => {
      open.delete(socket);
      if (entered) addresses.leave(address);
    });
    if (entered) return;
    counts.connectionRefused('address');
    socket.destroy();
  });
  if (server instanceof TlsNetServer) watchHandshakes(server, counts, logger);
  return open;
}

function watchHandshakes(server: TlsNetServer, counts: Counts, logger: Logger): void {
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    logger.debug({ error: messageOf(error), address: socket.remoteAddress }, 'TLS handshake');
    const reason = refusalOf(error, socket);
    if (reason !== undefined) counts.connectionRefused(reason);
  });
  // Where a certificate is optional, a wrong one isn't: its client believes that we know it.
  server.on('secureConnection', (socket: TLSSocket) => {
    if (socket.authorized || !showsCertificate(socket)) return;
    const error = String(socket.authorizationError ?? '');
    logger.debug({ error, address: socket.remoteAddress }, "a client's certificate is not accepted");
    counts.connectionRefused('certificate');
    socket.destroy();
  });
}

/** undefined for who left by himself, as those do that only look whether the port is open. */
function refusalOf(
  { code = '' }: NodeJS.ErrnoException,
  { authorizationError }: TLSSocket,
): 'certificate' | 'handshake' | undefined {
  const isMissing = code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE';
  if (isMissing || authorizationError) return 'certificate';
  return code.startsWith('ERR_') ? 'handshake' : undefined;
}

export class AddressBound {
  readonly #max: number;
  readonly #open = new Map<string, number>();

  /** @param max 0 is any number */
  constructor(max: number) {
    this.#max = max;
  }

  /** Addresses with open connections. */
  get size(): number {
    return this.#open.size;
  }

  /** @returns whether there was room; only then `leave` has to follow */
  enter(address: string): boolean {
    if (this.#max === 0) return true;
    const who = whose(address);
    const count = this.#open.get(who) ?? 0;
    if (count >= this.#max) return false;
    this.#open.set(who, count + 1);
    return true;
  }

  leave(address: string): void {
    if (this.#max === 0) return;
    const who = whose(address);
    const count = this.#open.get(who) ?? 0;
    if (count > 1) this.#open.set(who, count - 1);
    else this.#open.delete(who);
  }
}

const MAPPED = '::ffff:';

/**
 * Who has an address, as far as can be told: all of IPv4, the first 64 bits of IPv6, since every host of that
 * has as many addresses as it likes within them (RFC 4291, 2.5.1).
 */
function whose(address: string): string {
  if (address.startsWith(MAPPED)) return address.slice(MAPPED.length);
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  return [...left, ...new Array<string>(zeros).fill('0'), ...right].slice(0, 4).join(':');
}
