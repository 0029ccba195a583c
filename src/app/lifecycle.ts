/**
 * Start and stop of a role. Parts start from the sink back to the sources and stop the other way round: first
 * nothing new comes in, then what is inside is finished, then the connections go. The whole stop has one
 * bound.
 */
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

export interface Part {
  readonly name: string;
  /** Resolves when the part has let go of everything. `msMax` is what is left of the bound. */
  stop(msMax: number): Promise<void>;
}

export class Lifecycle {
  readonly #parts: Part[] = [];
  readonly #logger: Logger;
  readonly #drainMsMax: number;
  #stopping: Promise<boolean> | undefined;
  #failed: (() => void) | undefined;

  constructor(logger: Logger, drainMsMax: number) {
    this.#logger = logger;
    this.#drainMsMax = drainMsMax;
  }

  /**
   * In the order of starting: what was added last is stopped first. A part that is added while everything is
   * being stopped (a signal came during the start) is stopped at once.
   */
  add(name: string, stop: (msMax: number) => Promise<void>): void {
    const part = { name, stop };
    if (this.#stopping) void this.#stopOne(part, this.#drainMsMax);
    else this.#parts.push(part);
  }

  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** Something that the role can't do without is gone: everything is stopped, and the program ends with 1. */
  fail(reason: string): void {
    this.#logger.fatal({ reason }, 'stopping, because a part failed');
    void this.stop(reason).then(() => this.#failed?.());
  }

  onFailure(listener: () => void): void {
    this.#failed = listener;
  }

  /** @returns whether every part stopped by itself within the bound */
  stop(reason: string): Promise<boolean> {
    this.#stopping ??= this.#stopAll(reason);
    return this.#stopping;
  }

  async #stopAll(reason: string): Promise<boolean> {
    const started = performance.now();
    this.#logger.info({ reason, msMax: this.#drainMsMax }, 'draining');
    let clean = true;
    for (const part of this.#parts.toReversed()) {
      const left = Math.max(this.#drainMsMax - (performance.now() - started), 100);
      clean = (await this.#stopOne(part, left)) && clean;
    }
    this.#logger.info({ ms: Math.round(performance.now() - started), clean }, 'stopped');
    return clean;
  }

  async #stopOne(part: Part, msMax: number): Promise<boolean> {
    const startedMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), msMax);
    });
    try {
      const outcome = await Promise.race([part.stop(msMax), late]);
      // A part that cuts off what is inside at its bound may be a moment faster than the timer.
      if (outcome !== 'late' && performance.now() - startedMs < msMax) return true;
      this.#logger.error({ part: part.name, msMax }, 'did not stop in time (SLUICE_DRAIN_MS_MAX)');
    } catch (error) {
      this.#logger.error({ part: part.name, error: messageOf(error) }, 'failed to stop');
    } finally {
      clearTimeout(timer);
    }
    return false;
  }
}

/**
 * Runs until SIGTERM or SIGINT, then drains. A second signal ends the program at once.
 * @returns the exit code: 0 after a clean drain that was asked for
 */
export function untilSignalled(lifecycle: Lifecycle, logger: Logger): Promise<number> {
  return new Promise((resolve) => {
    lifecycle.onFailure(() => resolve(1));
    const signalled = (signal: NodeJS.Signals) => {
      if (lifecycle.stopping) {
        logger.warn({ signal }, 'second signal: ending without draining');
        process.exit(1);
      }
      lifecycle.stop(signal).then((clean) => resolve(clean ? 0 : 1));
    };
    process.on('SIGTERM', signalled);
    process.on('SIGINT', signalled);
  });
}
