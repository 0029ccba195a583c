/**
 * The lane for large requests: one thread, started with the first of them and ended after a quiet while, so
 * that its memory goes back to the system. Requests wait in line; how many bytes may wait is bounded by the
 * door.
 */
import { Worker } from 'node:worker_threads';
import { Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { IngestRequest } from '../receive/ingest.ts';
import type { ScreenSettings } from './screening.ts';
import type { LaneAnswer, LaneRequest, LaneResult, LaneSettings } from './large-lane-protocol.ts';

const QUIET_MS_MAX = 10_000;

interface Waiter {
  readonly resolve: (result: LaneResult) => void;
  readonly reject: (error: Error) => void;
}

export class LargeLane {
  readonly #settings: LaneSettings;
  readonly #logger: Logger;
  readonly #waiting = new Map<number, Waiter>();
  #worker: Worker | undefined;
  #quiet: NodeJS.Timeout | undefined;
  #lastId = 0;

  constructor(settings: LaneSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
  }

  /**
   * A body in one piece is copied before this returns its promise and stays the caller's; one in several is
   * handed to the thread with its buffers, since copying it would make everybody else wait.
   * @param weights of the shards that its rows are shared out to (OpenBlocks.route)
   * @param marking what its mark is made with; undefined: it gets none
   * @param overflow as in LaneRequest
   * @throws Fault when the thread ended under the request; nothing was stored then.
   */
  take(
    { signal, format, encoding, tenant, body }: Omit<IngestRequest, 'source' | 'requestId' | 'isKept'>,
    weights: readonly number[],
    marking: LaneRequest['marking'],
    screen: ScreenSettings,
    overflow?: ReadonlySet<number>,
  ): Promise<LaneResult> {
    clearTimeout(this.#quiet);
    this.#worker ??= this.#start();
    const worker = this.#worker;
    const id = ++this.#lastId;
    const pieces = (
      body.length === 1 ? body.map((piece) => piece.slice()) : body
    ) as Uint8Array<ArrayBuffer>[];
    const what = { id, signal, format, encoding, tenant, screen, overflow };
    const request: LaneRequest = { ...what, weights, marking, pieces };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage(
        request,
        pieces.map(({ buffer }) => buffer),
      );
    });
  }

  async close(): Promise<void> {
    clearTimeout(this.#quiet);
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(new URL('./large-lane-thread.ts', import.meta.url), {
      workerData: this.#settings,
    });
    worker.on('message', ({ id, result }: LaneAnswer) => {
      this.#waiting.get(id)?.resolve(result);
      this.#waiting.delete(id);
      if (this.#waiting.size === 0) this.#quiet = setTimeout(() => this.#end(worker), QUIET_MS_MAX).unref();
    });
    worker.on('error', (error) => this.#logger.error({ err: error }, 'the thread for large requests failed'));
    worker.on('exit', () => this.#ended(worker));
    return worker;
  }

  #end(worker: Worker): void {
    if (this.#worker === worker) this.#worker = undefined;
    void worker.terminate();
  }

  /** The thread is gone: whoever still waits is refused for now, the next request starts another one. */
  #ended(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const fault = new Fault('large_lane_ended', 'here', 'the thread for large requests ended');
    for (const { reject } of this.#waiting.values()) reject(fault);
    this.#waiting.clear();
    this.#logger.debug({ reason: messageOf(fault) }, 'large lane closed');
  }
}
