/** The books of a shard, as lua/counts.lua gives them. Items are rows: each accepted record is one. */
import { assert } from '../base/errors.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { Reply } from '../redis/replies.ts';

export interface ItemCounts {
  /** All that were ever acknowledged = written + waiting + dead + dropped, at any moment. */
  readonly accepted: number;
  readonly written: number;
  readonly waiting: number;
  readonly dead: number;
  /** Discarded, by a bound or by an operator. */
  readonly dropped: number;
  /** When the newest written item had been acknowledged, ms since 1970; `undefined` before the first. */
  readonly newestWrittenAtMs: number | undefined;
}

export interface ShardCounts {
  readonly items: Readonly<Record<Signal, ItemCounts>>;
  /** Bytes of fragments that wait to be written, in open and sealed batches. */
  readonly queueBytes: number;
  /** Bytes of fragments in dead letters. */
  readonly deadBytes: number;
  readonly deadLetters: number;
  /** Requests that are remembered, so that a repetition is recognised. */
  readonly remembered: number;
  readonly sealedBatches: number;
  readonly oldestSealedAgeMs: number | undefined;
  readonly oldestOpenAgeMs: number | undefined;
  /** Redis' clock, ms since 1970. */
  readonly nowMs: number;
}

/** Figures before the fields of the hash. */
const HEAD_LENGTH = 6;

export function parseCounts(reply: Reply): ShardCounts {
  assert(Array.isArray(reply), 'counts answers with an array');
  const [nowMs, sealedBatches, oldestSealedMs, oldestOpenMs, deadLetters, remembered] = reply
    .slice(0, HEAD_LENGTH)
    .map(Number);
  const complete = nowMs !== undefined && oldestSealedMs !== undefined && oldestOpenMs !== undefined;
  assert(complete && remembered !== undefined, 'counts begins with figures');
  const fields = new Map<string, number>();
  for (let i = HEAD_LENGTH; i + 1 < reply.length; i += 2) fields.set(String(reply[i]), Number(reply[i + 1]));
  const ageOf = (sinceMs: number) => (sinceMs < 0 ? undefined : Math.max(0, nowMs - sinceMs));
  const itemsOf = (signal: Signal): ItemCounts => ({
    accepted: fields.get(`accepted:${signal}`) ?? 0,
    written: fields.get(`written:${signal}`) ?? 0,
    waiting: fields.get(`waiting:${signal}`) ?? 0,
    dead: fields.get(`dead:${signal}`) ?? 0,
    dropped: fields.get(`dropped:${signal}`) ?? 0,
    newestWrittenAtMs: fields.get(`newest:${signal}`),
  });
  const [traces, metrics, logs] = SIGNALS.map(itemsOf);
  assert(traces !== undefined && metrics !== undefined && logs !== undefined, 'every signal has its books');
  return {
    items: { traces, metrics, logs },
    queueBytes: fields.get('bytes') ?? 0,
    deadBytes: fields.get('deadBytes') ?? 0,
    deadLetters: deadLetters ?? 0,
    remembered,
    sealedBatches: sealedBatches ?? 0,
    oldestSealedAgeMs: ageOf(oldestSealedMs),
    oldestOpenAgeMs: ageOf(oldestOpenMs),
    nowMs,
  };
}
