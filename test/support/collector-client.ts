/**
 * How an OpenTelemetry Collector sends, modelled after its source, because there is none here to run: the
 * queue and the retries of exporterhelper (queue_sender.go, retry_sender.go with cenkalti/backoff), and what
 * the exporters `otlp` (gRPC) and `otlphttp` take for worth a retry, as bench/send tells it of an answer.
 *
 * What matters for whoever pushes it back:
 * - each of the consumers holds one request while it waits, so `consumers` requests are tried at a time, and
 *   the others wait in the queue; what doesn't fit into the queue is refused to whoever sent it;
 * - before each retry it waits for the longer one of its own interval (exponential, with jitter) and what the
 *   server asked for: RetryInfo over gRPC, Retry-After with 429 and 503 over HTTP;
 * - a request whose next retry would begin after `elapsedMsMax` since its first try is dropped at once;
 * - RESOURCE_EXHAUSTED is dropped at once, unless RetryInfo comes with it.
 */
import type { Answer } from '../../bench/send/answer.ts';

export interface CollectorOptions {
  /** `sending_queue.queue_size`, in requests. */
  readonly queueMax: number;
  /** `sending_queue.num_consumers` */
  readonly consumers: number;
  /** `retry_on_failure.initial_interval` */
  readonly initialMs: number;
  /** `retry_on_failure.max_interval` */
  readonly intervalMsMax: number;
  /** `retry_on_failure.multiplier` */
  readonly multiplier: number;
  /** `retry_on_failure.randomization_factor` */
  readonly randomization: number;
  /** `retry_on_failure.max_elapsed_time`; 0 never gives up. */
  readonly elapsedMsMax: number;
}

/** Of the collector itself, without a word in its configuration. */
export const COLLECTOR_DEFAULTS: CollectorOptions = {
  queueMax: 1000,
  consumers: 10,
  initialMs: 5_000,
  intervalMsMax: 30_000,
  multiplier: 1.5,
  randomization: 0.5,
  elapsedMsMax: 300_000,
};

/** The same behaviour, so many times as fast: for what the collector decides by itself. */
export function hastened(options: CollectorOptions, factor: number): CollectorOptions {
  return {
    ...options,
    initialMs: options.initialMs / factor,
    intervalMsMax: options.intervalMsMax / factor,
    elapsedMsMax: options.elapsedMsMax / factor,
  };
}

export interface CollectorCounts {
  readonly acknowledged: number;
  /** Tries that ended with something that is worth another. */
  readonly retried: number;
  /** Offered while the queue was full. */
  readonly refused: number;
  /** Answered with what is not worth a retry. */
  readonly droppedForGood: number;
  /** Still not taken when the time was up. */
  readonly droppedLate: number;
}

export class CollectorClient<Request> {
  readonly #send: (request: Request, consumer: number) => Promise<Answer>;
  readonly #options: CollectorOptions;
  readonly #random: () => number;
  readonly #queue: Request[] = [];
  readonly #idle: number[];
  readonly #counts = { acknowledged: 0, retried: 0, refused: 0, droppedForGood: 0, droppedLate: 0 };
  #working = new Set<Promise<void>>();

  /**
   * @param send one try, which never rejects; each consumer has one under way at most
   * @param random in [0, 1), for the jitter
   */
  constructor(
    send: (request: Request, consumer: number) => Promise<Answer>,
    options: CollectorOptions = COLLECTOR_DEFAULTS,
    random: () => number = Math.random,
  ) {
    this.#send = send;
    this.#options = options;
    this.#random = random;
    this.#idle = Array.from({ length: options.consumers }, (_, consumer) => consumer);
  }

  get counts(): CollectorCounts {
    return this.#counts;
  }

  /** Requests in the queue and with the consumers. */
  get waiting(): number {
    return this.#queue.length + this.#working.size;
  }

  /** @returns false when the queue is full: nothing of the request is kept */
  offer(request: Request): boolean {
    const consumer = this.#idle.pop();
    if (consumer !== undefined) {
      const work = this.#consume(consumer, request).finally(() => this.#working.delete(work));
      this.#working.add(work);
      return true;
    }
    if (this.#queue.length >= this.#options.queueMax) {
      this.#counts.refused += 1;
      return false;
    }
    this.#queue.push(request);
    return true;
  }

  /** Resolves once everything offered is acknowledged or dropped. */
  async flushed(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working);
  }

  async #consume(consumer: number, first: Request): Promise<void> {
    for (let request: Request | undefined = first; request !== undefined; request = this.#queue.shift()) {
      await this.#deliver(request, consumer);
    }
    this.#idle.push(consumer);
  }

  async #deliver(request: Request, consumer: number): Promise<void> {
    const { initialMs, intervalMsMax, multiplier, randomization, elapsedMsMax } = this.#options;
    const giveUpAtMs = elapsedMsMax === 0 ? Number.POSITIVE_INFINITY : performance.now() + elapsedMsMax;
    for (let intervalMs = initialMs; ; intervalMs = Math.min(intervalMs * multiplier, intervalMsMax)) {
      const answer = await this.#send(request, consumer);
      if (answer.kind === 'acknowledged') {
        this.#counts.acknowledged += 1;
        return;
      }
      if (answer.kind === 'refused' && !answer.retryable) {
        this.#counts.droppedForGood += 1;
        return;
      }
      const ownMs = intervalMs * (1 + randomization * (2 * this.#random() - 1));
      const askedMs = answer.kind === 'refused' ? (answer.retryAfterMs ?? 0) : 0;
      const delayMs = Math.max(ownMs, askedMs);
      if (performance.now() + delayMs > giveUpAtMs) {
        this.#counts.droppedLate += 1;
        return;
      }
      this.#counts.retried += 1;
      await new Promise((resolve) => setTimeout(resolve, delayMs));
    }
  }
}
