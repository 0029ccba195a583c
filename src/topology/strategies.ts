/**
 * The three ways to choose among replicas that may be chosen. Each gets weights, in which health and load are
 * in already, and gives every replica its part of the inserts by them. Pure but for what a strategy remembers
 * of its own choices.
 */
import { createHash } from 'node:crypto';
import { assert } from '../base/errors.ts';
import type { ReplicaStrategy } from '../config/settings.ts';

export interface Candidate {
  readonly host: string;
  /** Above 0. Only its relation to the others counts. */
  readonly weight: number;
  /** Work that this process has under way there (load.ts). */
  readonly unitsInFlight: number;
}

export interface Insert {
  /** The batch, the same for every try. */
  readonly id: string;
  readonly table: string;
  readonly units: number;
}

/** Picks the host of one of at least one candidates. One strategy serves one shard. */
export type Strategy = (candidates: readonly Candidate[], insert: Insert) => string;

export function createStrategy(name: ReplicaStrategy): Strategy {
  if (name === 'consistent_hash') return rendezvous;
  if (name === 'least_loaded') return leastLoaded();
  return roundRobin();
}

/**
 * By turns, table by table: batches of a table are alike, and two tables that take turns themselves would
 * otherwise each meet the same replica for ever.
 */
function roundRobin(): Strategy {
  const tables = new Map<string, Turns>();
  return (candidates, { table }) => {
    const turns = tables.get(table) ?? new Turns();
    tables.set(table, turns);
    return turns.next(candidates, 1, () => 0);
  };
}

/** By turns in units of work, where what a replica has under way counts against it. */
function leastLoaded(): Strategy {
  const turns = new Turns();
  return (candidates, { units }) => turns.next(candidates, units, ({ unitsInFlight }) => unitsInFlight);
}

/** Work that a replica may be owed at most: with more, one that was slow for long would be flooded. */
const CREDIT_MAX = 256;
/** Thirds don't add up: among equals the first is meant, every time. */
const ROUNDING = 1e-9;

/**
 * Smooth weighted turns: everybody is credited its part of each insert, and who has most pays for it. So
 * parts are exact in the long run, and turns mix well in the short one.
 * Source: https://github.com/phusion/nginx/commit/27e94984486058d73157038f7950a0a36ecc6e35
 */
class Turns {
  #credits = new Map<string, number>();

  next(candidates: readonly Candidate[], cost: number, busy: (candidate: Candidate) => number): string {
    const sum = candidates.reduce((total, { weight }) => total + weight, 0);
    const credits = new Map<string, number>();
    let best: { readonly host: string; readonly score: number } | undefined;
    for (const candidate of candidates) {
      const before = this.#credits.get(candidate.host) ?? 0;
      const credit = Math.min(CREDIT_MAX, before + (cost * candidate.weight) / sum);
      const score = credit - busy(candidate);
      credits.set(candidate.host, credit);
      if (best === undefined || score > best.score + ROUNDING) best = { host: candidate.host, score };
    }
    assert(best, 'there is a candidate');
    credits.set(best.host, Math.max(-CREDIT_MAX, (credits.get(best.host) ?? 0) - cost));
    this.#credits = credits;
    return best.host;
  }
}

/**
 * By the batch alone: of every host and batch a number is drawn, and the least one, by weight, wins. So of
 * all batches only those of a replica that is lost go elsewhere, and those come back with it.
 * Source: https://en.wikipedia.org/wiki/Rendezvous_hashing (weighted)
 */
const rendezvous: Strategy = (candidates, { id }) => {
  let best: { readonly host: string; readonly score: number } | undefined;
  for (const { host, weight } of candidates) {
    const drawn = createHash('sha1').update(`${host} ${id}`).digest().readUInt32BE();
    const score = -Math.log((drawn + 0.5) / 2 ** 32) / weight;
    if (best === undefined || score < best.score) best = { host, score };
  }
  assert(best, 'there is a candidate');
  return best.host;
};
