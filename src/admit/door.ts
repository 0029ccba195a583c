/**
 * The bounds before anything is read: how many requests, and how many bytes of them, may be inside at the
 * same time. Whoever is let in holds a ticket and gives it back in every path; nothing else is kept about a
 * request here.
 */
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { type LaterReason, type Verdict, later } from '../model/outcome.ts';
import { DEFAULT_TENANT } from '../model/tenant.ts';

export type DoorLimits = Pick<Settings['receive'], 'requestsInFlightMax' | 'bytesInFlightMax'>;
type DoorInstruments = Pick<Instruments, 'requestsInFlight' | 'bytesInFlight'>;

/**
 * Clients that are turned away come back after this long, spread out so that they don't return as one crowd.
 */
const RETRY_AFTER_MS_MIN = 1_000;
const RETRY_AFTER_MS_MAX = 5_000;

/** The right to be inside. One per request, used by one listener. */
export class Ticket {
  readonly kind = 'ticket';
  readonly tenant: string;
  readonly #door: Door;
  #bytes = 0;
  #inside = true;

  /** Only for the door. */
  constructor(door: Door, tenant: string) {
    this.#door = door;
    this.tenant = tenant;
  }

  /**
   * Accounts for `bytes` more that have arrived, before they are kept.
   * @returns why they can't be kept now; then nothing was added, and the ticket is still to be given back
   */
  grow(bytes: number): Verdict | undefined {
    const refusal = this.#door.addBytes(bytes);
    if (refusal === undefined) this.#bytes += bytes;
    return refusal;
  }

  /** Gives the ticket and all its bytes back. A second call does nothing. */
  leave(): void {
    if (!this.#inside) return;
    this.#inside = false;
    this.#door.release(this.#bytes);
  }
}

export class Door {
  /** May be changed at any time: those inside stay. */
  limits: DoorLimits;
  readonly #instruments: DoorInstruments;
  #requests = 0;
  #bytes = 0;
  #open = true;

  constructor(limits: DoorLimits, instruments: DoorInstruments) {
    this.limits = limits;
    this.#instruments = instruments;
  }

  get requestsInFlight(): number {
    return this.#requests;
  }

  /** As they came over the wire, before decompression. */
  get bytesInFlight(): number {
    return this.#bytes;
  }

  /**
   * One request more, or why not now.
   * @param declaredBytes what the client says it will send, 0 when it doesn't say. A request that can't fit
   * is refused before it is read; nothing is reserved for it, since saying so costs a client nothing.
   */
  enter(declaredBytes: number, tenant = DEFAULT_TENANT): Ticket | Verdict {
    if (!this.#open) return notNow('draining', 'this gateway is shutting down; send it again');
    const { requestsInFlightMax } = this.limits;
    if (this.#requests >= requestsInFlightMax) {
      const limit = `${requestsInFlightMax} requests are in flight (SLUICE_RECEIVE_REQUESTS_IN_FLIGHT_MAX)`;
      return notNow('requests_in_flight', `${limit}; send it again`);
    }
    if (!this.#fits(declaredBytes)) return this.#full();
    this.#requests += 1;
    this.#instruments.requestsInFlight.set(this.#requests);
    return new Ticket(this, tenant);
  }

  /** From now on every request is turned away; those inside finish. */
  close(): void {
    this.#open = false;
  }

  /** Only for tickets. */
  addBytes(bytes: number): Verdict | undefined {
    if (!this.#fits(bytes)) return this.#full();
    this.#bytes += bytes;
    this.#instruments.bytesInFlight.set(this.#bytes);
    return undefined;
  }

  /** Only for tickets. */
  release(bytes: number): void {
    this.#requests -= 1;
    this.#bytes -= bytes;
    this.#instruments.requestsInFlight.set(this.#requests);
    this.#instruments.bytesInFlight.set(this.#bytes);
  }

  #fits(bytes: number): boolean {
    return this.#bytes + bytes <= this.limits.bytesInFlightMax;
  }

  #full(): Verdict {
    const { bytesInFlightMax } = this.limits;
    const limit = `${bytesInFlightMax} bytes of requests are in flight (SLUICE_RECEIVE_BYTES_IN_FLIGHT_MAX)`;
    return notNow('bytes_in_flight', `${limit}; send it again`);
  }
}

function notNow(reason: LaterReason, message: string): Verdict {
  const spread = RETRY_AFTER_MS_MAX - RETRY_AFTER_MS_MIN;
  return later(reason, message, RETRY_AFTER_MS_MIN + Math.random() * spread);
}
