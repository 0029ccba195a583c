/**
 * What was sent and what became of it: a few bytes a request, so that millions of records are no burden. All
 * records of a request share its fate, since clients send and resend it whole.
 */
import { SIGNALS, type Signal } from '../../../src/model/signal.ts';
import { REQUEST_RECORDS_MAX } from './records.ts';

/** `unknown`: nobody ever told the client; its records may be stored, each once, or not. */
export type State = 'unknown' | 'acknowledged';

export interface Sent {
  readonly request: number;
  readonly signal: Signal;
  readonly client: number;
  readonly records: number;
  readonly state: State;
  /** How often it went out, repeats after the acknowledgement included. */
  readonly attempts: number;
  /** ms since the storm began: the first attempt, and the acknowledgement or the last word. */
  readonly beganMs: number;
  readonly endedMs: number;
}

const FIRST_SIZE = 4096;
const ATTEMPTS_SHOWN_MAX = 255;

export class Ledger {
  #signals = new Uint8Array(FIRST_SIZE);
  #clients = new Uint8Array(FIRST_SIZE);
  #records = new Uint16Array(FIRST_SIZE);
  #acknowledged = new Uint8Array(FIRST_SIZE);
  #attempts = new Uint8Array(FIRST_SIZE);
  #began = new Uint32Array(FIRST_SIZE);
  #ended = new Uint32Array(FIRST_SIZE);
  #count = 0;
  #acknowledgedRecords = 0;

  get requests(): number {
    return this.#count;
  }

  get acknowledgedRecords(): number {
    return this.#acknowledgedRecords;
  }

  /** @returns the request's number, from 1 */
  begin(signal: Signal, client: number, records: number, atMs: number): number {
    if (records < 1 || records > REQUEST_RECORDS_MAX) throw new Error(`a request of ${records} records`);
    const request = ++this.#count;
    if (request >= this.#signals.length) this.#grow();
    this.#signals[request] = SIGNALS.indexOf(signal);
    this.#clients[request] = client;
    this.#records[request] = records;
    this.#began[request] = atMs;
    return request;
  }

  attempt(request: number): void {
    const before = this.#attempts[request] ?? 0;
    this.#attempts[request] = Math.min(ATTEMPTS_SHOWN_MAX, before + 1);
  }

  /** May be said again: a repeat that is acknowledged changes nothing. */
  acknowledge(request: number, atMs: number): void {
    if (this.#acknowledged[request] === 1) return;
    this.#acknowledged[request] = 1;
    this.#ended[request] = atMs;
    this.#acknowledgedRecords += this.#records[request] ?? 0;
  }

  giveUp(request: number, atMs: number): void {
    if (this.#acknowledged[request] !== 1) this.#ended[request] = atMs;
  }

  /** @returns undefined for a number that was never given out */
  of(request: number): Sent | undefined {
    const signal = SIGNALS[this.#signals[request] ?? -1];
    if (request < 1 || request > this.#count || signal === undefined) return undefined;
    return {
      request,
      signal,
      client: this.#clients[request] ?? 0,
      records: this.#records[request] ?? 0,
      state: this.#acknowledged[request] === 1 ? 'acknowledged' : 'unknown',
      attempts: this.#attempts[request] ?? 0,
      beganMs: this.#began[request] ?? 0,
      endedMs: this.#ended[request] ?? 0,
    };
  }

  #grow(): void {
    this.#signals = doubled(this.#signals, Uint8Array);
    this.#clients = doubled(this.#clients, Uint8Array);
    this.#records = doubled(this.#records, Uint16Array);
    this.#acknowledged = doubled(this.#acknowledged, Uint8Array);
    this.#attempts = doubled(this.#attempts, Uint8Array);
    this.#began = doubled(this.#began, Uint32Array);
    this.#ended = doubled(this.#ended, Uint32Array);
  }
}

/** The same figures with room for as many again. */
function doubled<T extends { readonly length: number; set(from: T): void }>(
  from: T,
  Kind: new (length: number) => T,
): T {
  const larger = new Kind(from.length * 2);
  larger.set(from);
  return larger;
}
