/**
 * What is failing at the moment, so that it is said once: when it begins, when its cause changes and when it
 * is over. Every single attempt is in the metrics.
 */
import { nowMs } from '../base/clock.ts';
import type { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

interface Failing {
  readonly sinceMs: number;
  readonly code: string;
  readonly attempts: number;
}

export class Trouble {
  readonly #logger: Logger;
  readonly #failing = new Map<string, Failing>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** @param what fails, one of a bounded number of things: it is remembered until it works again */
  failed(what: string, fault: Fault): void {
    const before = this.#failing.get(what);
    const { sinceMs, attempts } = before ?? { sinceMs: nowMs(), attempts: 0 };
    this.#failing.set(what, { sinceMs, code: fault.code, attempts: attempts + 1 });
    if (before?.code === fault.code) return;
    const about = { what, code: fault.code, reason: fault.message };
    this.#logger.warn(about, 'inserts fail and will be tried again');
  }

  worked(what: string): void {
    const failing = this.#failing.get(what);
    if (failing === undefined) return;
    this.#failing.delete(what);
    const { attempts, sinceMs } = failing;
    this.#logger.info({ what, attempts, forMs: nowMs() - sinceMs }, 'inserts work again');
  }
}
