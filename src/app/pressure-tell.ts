/** Tells of pressure: gauges always, the log once for each change. */
import type { Held, Level, PressureReason, Reading } from '../admit/pressure.ts';
import type { Logger } from '../base/log.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { pushedBack, slowed } from './pressure-words.ts';

/** From here on a reading is near its limit by itself, not only foretold to be. */
const NEAR_RATIO = 0.85;
const NEVER = -1;

export interface PressureNews {
  readonly away: boolean;
  readonly level: Level;
  readonly changed: readonly Held[];
  readonly readings: readonly Reading[];
}

export class PressureTeller {
  readonly #instruments: Instruments;
  readonly #logger: Logger;
  #away = false;
  #shown: readonly PressureReason[] = [];

  constructor(instruments: Instruments, logger: Logger) {
    this.#instruments = instruments;
    this.#logger = logger;
  }

  tell({ away, level, changed, readings }: PressureNews): void {
    const { backpressureLevel, backpressureReason, pressure } = this.#instruments;
    if (away !== this.#away) this.#tellOfRedis(away, level);
    for (const held of changed) {
      backpressureReason.set({ reason: held.reading.reason }, held.level === 0 ? 0 : 1);
      this.#tellOf(held, level);
    }
    backpressureLevel.set(level);
    for (const { reason, ratio } of readings) pressure.set({ reason }, ratio);
    const known = readings.map(({ reason }) => reason);
    // Unknown is no figure.
    for (const reason of this.#shown) if (!known.includes(reason)) pressure.remove({ reason });
    this.#shown = known;
  }

  show({ queue, drainItemsPerSecond }: { queue: Reading | undefined; drainItemsPerSecond: number }): void {
    this.#instruments.limitInSeconds.set(queue?.inSeconds ?? NEVER);
    this.#instruments.drainItemsPerSecond.set(drainItemsPerSecond);
  }

  #tellOfRedis(away: boolean, level: Level): void {
    this.#away = away;
    this.#instruments.backpressureReason.set({ reason: 'redis_unavailable' }, away ? 1 : 0);
    if (away) this.#logger.warn('Redis is away: clients are pushed back (SLUICE_REDIS_URL)');
    else this.#logger.info({ level }, 'redis_unavailable: clients are let in again');
  }

  #tellOf({ reading, level: own }: Held, level: Level): void {
    const { reason, value, limit, ratio, inSeconds } = reading;
    const figures = { reason, value, limit, ratio, inSeconds, level };
    if (own === 2) this.#logger.warn(figures, pushedBack(reason));
    else if (own === 1) this.#logger.warn(figures, slowed(reason, ratio < NEAR_RATIO));
    else if (level === 0) this.#logger.info(figures, `${reason}: clients are let in again`);
    else this.#logger.info(figures, `${reason} is over`);
  }
}
