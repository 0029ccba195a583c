/** What clients saw, summed up while the storm runs. */
import { tickMs } from '../../../src/base/clock.ts';

/** Answers and silences by their code; what a refusal said the last time. */
export interface Seen {
  count: number;
  message: string;
}

export class Tally {
  readonly answers = new Map<string, Seen>();
  /** Requests sent again because their outcome was not known or had been a refusal that may pass. */
  resends = 0;
  /** Requests sent again although they were acknowledged; to two gateways at the same time; left behind. */
  repeats = 0;
  hedges = 0;
  vanished = 0;
  gaveUp = 0;
  /** Refusals that no client repeats: each is a request that a sender would have thrown away. */
  refusedForGood = 0;
  acknowledgements = 0;
  /** The longest time in which nobody was acknowledged, ms, and when it began. */
  longestSilenceMs = 0;
  longestSilenceFromMs = 0;
  #startedAtMs = tickMs();
  #lastAtMs = tickMs();

  start(): void {
    this.#startedAtMs = tickMs();
    this.#lastAtMs = this.#startedAtMs;
  }

  /** ms since the start. */
  get nowMs(): number {
    return Math.round(tickMs() - this.#startedAtMs);
  }

  saw(code: string, message: string): void {
    const seen = this.answers.get(code) ?? { count: 0, message };
    seen.count += 1;
    if (message !== '') seen.message = message;
    this.answers.set(code, seen);
  }

  acknowledged(): void {
    const now = tickMs();
    const silenceMs = now - this.#lastAtMs;
    if (silenceMs > this.longestSilenceMs) {
      this.longestSilenceMs = Math.round(silenceMs);
      this.longestSilenceFromMs = Math.round(this.#lastAtMs - this.#startedAtMs);
    }
    this.#lastAtMs = now;
    this.acknowledgements += 1;
  }
}
