/**
 * Gateways tell each other which series they let in, so that all let in the same ones: every second, for the
 * metrics that have come to a sixteenth of their limit, in one script call of bounded size. Those that have
 * to wait for their turn come first next time. Below that a gateway decides by itself, so up to 16 gateways
 * can't exceed the limit together without having exchanged; what may exceed it is what they let in between
 * two exchanges.
 */
import { assert, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { RedisCommands } from '../redis/client.ts';
import { type Half, type SeriesPart, SeriesLog, halfKey } from './series-log.ts';
import type { SeriesMetric } from './series-metric.ts';
import { SERIES } from './series-script.ts';

/** A metric with this part of its limit is exchanged. */
const EXCHANGED_FROM = 1 / 16;
/** In one call. */
const METRICS_MAX = 500;
const FINGERPRINTS_MAX = 60_000;
const ANSWER_BYTES_MAX = 1_048_576;
/** Of the logs of half a window; those of two halves are in Redis. */
const LOG_BYTES_MAX = 33_554_432;
/** Logs outlive the half after theirs by this: clocks may differ. */
const SLACK_SECONDS = 60;

export interface SeriesExchangeOptions {
  readonly redis: RedisCommands;
  readonly logger: Logger;
  readonly seriesMax: () => number;
}

export class SeriesExchange {
  readonly #options: SeriesExchangeOptions;
  /** In the order of their turns. */
  readonly #metrics = new Set<SeriesMetric>();
  #isFull = false;

  constructor(options: SeriesExchangeOptions) {
    this.#options = options;
  }

  /** A metric that has a new series: from when it is worth it, others are told of it. */
  consider(metric: SeriesMetric, half: Half): void {
    const { seriesMax } = this.#options;
    if (metric.log !== undefined || metric.filter.count < seriesMax() * EXCHANGED_FROM) return;
    metric.log = new SeriesLog(metric.tenant, metric.hash, metric.filter, half, seriesMax);
    this.#metrics.add(metric);
  }

  remove(metric: SeriesMetric): void {
    metric.log = undefined;
    this.#metrics.delete(metric);
  }

  /** One exchange. @throws Fault of Redis; then nothing is lost but time. @param nowSeconds since 1970 */
  async run(half: Half, nowSeconds: number): Promise<void> {
    const parts = this.#take(half);
    if (parts.length === 0) return;
    const ttl = Math.ceil(half.startSeconds + 2 * half.seconds - nowSeconds) + SLACK_SECONDS;
    const keys = [halfKey(half.startSeconds), ...parts.map(({ key }) => key)];
    const bounds = [ttl, LOG_BYTES_MAX, ANSWER_BYTES_MAX];
    let reply: unknown;
    try {
      reply = await SERIES.run(this.#options.redis, keys, [
        ...bounds,
        ...parts.flatMap(({ offset, text }) => [offset, text]),
      ]);
    } catch (error) {
      for (const part of parts) part.failed();
      throw error;
    }
    assert(Array.isArray(reply) && reply.length === parts.length, 'the script answers for each log');
    for (const [i, part] of parts.entries()) this.#done(part, reply[i]);
  }

  #take(half: Half): SeriesPart[] {
    const parts: SeriesPart[] = [];
    let room = FINGERPRINTS_MAX;
    for (const metric of [...this.#metrics].slice(0, METRICS_MAX)) {
      if (metric.log === undefined || room <= 0) continue;
      metric.turnTo(half.turn);
      const ofMetric = metric.log.parts(half, room);
      for (const { text } of ofMetric) room -= text.length / CHARACTERS_OF_FINGERPRINT;
      parts.push(...ofMetric);
      this.#metrics.delete(metric);
      this.#metrics.add(metric);
    }
    return parts;
  }

  #done(part: SeriesPart, reply: unknown): void {
    const [offset, entries, stored, atEnd] = Array.isArray(reply) ? reply : [];
    if (typeof offset !== 'number' || typeof entries !== 'string') {
      throw new Fault('redis_unavailable', 'here', `the log ${part.key} can't be read`);
    }
    part.done(offset, entries, { wasStored: stored === 1, isAtEnd: atEnd === 1 });
    if (stored === 1 || this.#isFull) return;
    this.#isFull = true;
    const message = 'gateways tell each other of no more time series until the next half of the window';
    this.#options.logger.warn({ logBytesMax: LOG_BYTES_MAX }, message);
  }
}

/** Base64: 16 characters for three. */
const CHARACTERS_OF_FINGERPRINT = 16 / 3;
