/**
 * How long requests are remembered, and the secret key of their marks: both are the same for all gateways,
 * who agree on them in Redis once a second (lua/resend_window.lua). Only what is remembered from now on
 * follows the window; what is remembered already keeps the time that it was given.
 */
import { randomBytes } from 'node:crypto';
import { sleep } from '../base/clock.ts';
import { assert, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { RedisCommands } from '../redis/client.ts';
import { RESEND_KEY } from './keys.ts';
import { SCRIPTS } from './scripts.ts';

const KEY_BYTES = 16;
const EVERY_MS_DEFAULT = 1_000;

export interface ResendWindowOptions {
  readonly redis: RedisCommands;
  readonly resend: Settings['resend'];
  readonly instruments: Pick<Instruments, 'resendWindow'>;
  readonly logger: Logger;
  readonly everyMs?: number;
}

export class ResendWindow {
  readonly #options: ResendWindowOptions;
  readonly #stop = new AbortController();
  #resend: Settings['resend'];
  #key: Uint8Array | undefined;
  #seconds: number;
  /** Requests since Redis was last told. */
  #count = 0;

  constructor(options: ResendWindowOptions) {
    this.#options = options;
    this.#resend = options.resend;
    this.#seconds = this.#secondsAtFirst();
    options.instruments.resendWindow.set(this.#seconds);
  }

  /** Other settings: for what is remembered from now on. */
  update(resend: Settings['resend']): void {
    const before = this.#resend.windowSeconds;
    this.#resend = resend;
    if (resend.windowSeconds === before) return;
    this.#seconds = this.#secondsAtFirst();
    this.#options.instruments.resendWindow.set(this.#seconds);
  }

  /** Whether requests are recognised now. */
  get enabled(): boolean {
    return this.#key !== undefined && this.#wanted;
  }

  /** False when no request of any source is remembered. */
  get #wanted(): boolean {
    const { windowSeconds, sources } = this.#resend;
    return windowSeconds !== 0 || [...sources.values()].some((seconds) => seconds > 0);
  }

  /**
   * 16 bytes, known once `first` has resolved; the same array until the key is another. That happens when
   * Redis was emptied while no gateway was there that knew it, and marks made with the old one mean nothing
   * then.
   */
  get key(): Uint8Array {
    assert(this.#key !== undefined, 'the key is known after first()');
    return this.#key;
  }

  /**
   * How long a request of this source (empty: of none) is remembered, if it is stored now; 0 is not at all.
   */
  seconds(source: string): number {
    return this.#resend.sources.get(source) ?? this.#seconds;
  }

  /** One request that was not a repetition. */
  counted(): void {
    this.#count += 1;
  }

  /**
   * Resolves when window and key are known, the key also where resends are not recognised: other secrets are
   * made of it. Rejects with the Fault of Redis: `first` may be called again.
   */
  async first(): Promise<void> {
    await this.#round();
  }

  /** Keeps both up to date from now on. While Redis is away they stay as they were. */
  start(): void {
    void this.#keepUp();
  }

  /** A round that is under way ends by itself. */
  stop(): void {
    this.#stop.abort();
  }

  async #keepUp(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      await sleep(this.#options.everyMs ?? EVERY_MS_DEFAULT, signal);
      if (signal.aborted) return;
      try {
        await this.#round();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#options.logger.debug({ reason: error.message }, 'the window for repeated requests stays');
      }
    }
  }

  async #round(): Promise<void> {
    const { redis, instruments, logger } = this.#options;
    const resend = this.#resend;
    // A round that fails takes its count along: while Redis is away next to nothing is stored, and what came
    // in all that time must not look like the traffic of one moment.
    const count = this.#count;
    this.#count = 0;
    // A key that is known is offered again, so that an emptied Redis gets it back.
    const offered = Buffer.from(this.#key ?? randomBytes(KEY_BYTES)).toString('hex');
    const { quietSeconds, busySeconds, fastSeconds } = resend;
    const { busyRequestsPerSecond, fastRequestsPerSecond } = resend;
    const windows = [quietSeconds, busySeconds, fastSeconds];
    const args = [count, ...windows, busyRequestsPerSecond, fastRequestsPerSecond, offered];
    const reply = await SCRIPTS.resendWindow.run(redis, [RESEND_KEY], args);
    assert(Array.isArray(reply) && reply.length === 3, 'the script answers with window, key and rate');
    const [seconds, key, requestsPerSecond] = reply;
    this.#take(Buffer.from(String(key), 'hex'));
    if (resend.windowSeconds !== 'auto' || seconds === this.#seconds) return;
    this.#seconds = Number(seconds);
    instruments.resendWindow.set(this.#seconds);
    logger.debug({ seconds, requestsPerSecond }, 'the window for repeated requests changed');
  }

  #secondsAtFirst(): number {
    const { windowSeconds, quietSeconds } = this.#resend;
    return windowSeconds === 'auto' ? quietSeconds : windowSeconds;
  }

  #take(key: Buffer): void {
    if (this.#key !== undefined && Buffer.compare(key, this.#key) === 0) return;
    if (this.#key !== undefined) {
      this.#options.logger.warn('Redis was emptied: requests that were sent before are not recognised');
    }
    this.#key = key;
  }
}
