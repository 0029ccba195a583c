/**
 * What was sent and what became of it, by the number of the request; and the comparison with what is stored.
 */
import { assert } from '../../src/base/errors.ts';

const UNANSWERED = 0;
const ACKNOWLEDGED = 1;
const REFUSED = 2;

/** What the database has of one request. */
export interface StoredRequest {
  readonly request: number;
  /** Rows. */
  readonly copies: number;
  /** Different items. */
  readonly items: number;
}

export interface Audit {
  /** Items that the server said it has, without those that it said it rejected. */
  readonly acknowledged: number;
  /** Of them in the database. */
  readonly stored: number;
  /** Of them not. */
  readonly missing: number;
  /** Rows too many, whether acknowledged or not. */
  readonly doubled: number;
  /**
   * Items stored although their request was never acknowledged: right when the answer got lost on its way.
   */
  readonly unacknowledgedStored: number;
  /** Items stored although their request was refused, which promises that nothing is. */
  readonly refusedStored: number;
  /** Some requests that lack items or have too many, to look into. */
  readonly examples: readonly string[];
}

const EXAMPLES_MAX = 5;

export class Ledger {
  #states = new Uint8Array(1024);
  #items = new Uint32Array(1024);
  #count = 0;
  #acknowledgedItems = 0;

  get acknowledgedItems(): number {
    return this.#acknowledgedItems;
  }

  get requests(): number {
    return this.#count;
  }

  /** @returns the number of the request, from 1 */
  issue(items: number): number {
    const request = ++this.#count;
    if (request >= this.#states.length) this.#grow();
    this.#items[request] = items;
    return request;
  }

  /** @param rejected how many of its items the server said it rejected */
  acknowledge(request: number, rejected: number): void {
    const accepted = (this.#items[request] ?? 0) - rejected;
    assert(this.#states[request] !== ACKNOWLEDGED, `request ${request} is acknowledged once`);
    this.#states[request] = ACKNOWLEDGED;
    this.#items[request] = accepted;
    this.#acknowledgedItems += accepted;
  }

  refuse(request: number): void {
    this.#states[request] = REFUSED;
  }

  /** @param stored requests in any order; those of which nothing is stored may be left out */
  audit(stored: Iterable<StoredRequest>): Audit {
    const found = new Uint32Array(this.#count + 1);
    const examples: string[] = [];
    let doubled = 0;
    for (const { request, copies, items } of stored) {
      assert(request >= 1 && request <= this.#count, `request ${request} was sent`);
      found[request] = items;
      doubled += copies - items;
      if (copies > items) examples.push(`request ${request} has ${copies} rows of ${items} items`);
    }
    const sums = { stored: 0, missing: 0, unacknowledgedStored: 0, refusedStored: 0 };
    for (let request = 1; request <= this.#count; request++) {
      const there = found[request] ?? 0;
      const state = this.#states[request];
      if (state === REFUSED) sums.refusedStored += there;
      else if (state === UNANSWERED) sums.unacknowledgedStored += there;
      else {
        const wanted = this.#items[request] ?? 0;
        sums.stored += Math.min(there, wanted);
        sums.missing += Math.max(0, wanted - there);
        if (there < wanted) examples.push(`request ${request} has ${there} of ${wanted} items`);
      }
    }
    const acknowledged = this.#acknowledgedItems;
    return { acknowledged, ...sums, doubled, examples: examples.slice(0, EXAMPLES_MAX) };
  }

  #grow(): void {
    const states = new Uint8Array(this.#states.length * 2);
    states.set(this.#states);
    this.#states = states;
    const items = new Uint32Array(this.#items.length * 2);
    items.set(this.#items);
    this.#items = items;
  }
}
