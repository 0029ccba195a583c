/**
 * Recognising repeated requests, as the ingest sees it: the mark of a request, whether this gateway knows it
 * already, what is needed to make it anew, and where its rows lay when it came first. What Redis knows is
 * found out by the append itself (queue/lua/append.lua).
 */
import { RequestMarks, senderOf } from '../admit/request-mark.ts';
import { type Recalled, Resends, memoryPressure } from '../admit/resends.ts';
import { tickMs } from '../base/clock.ts';
import { assert } from '../base/errors.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { Outcome } from '../model/outcome.ts';
import type { Placing, Resendable } from '../queue/commit.ts';
import type { ResendWindow } from '../queue/resend-window.ts';
import { BufferPool } from '../receive/buffers.ts';
import { type EncodedRequest, decodeRequest } from './decode.ts';
import type { Placements } from './placements.ts';

export interface RecognitionOptions {
  readonly settings: Pick<Settings, 'receive' | 'resend'>;
  /** Known. */
  readonly window: ResendWindow;
  readonly placements: Placements;
  readonly instruments: Instruments;
}

export class Recognition {
  readonly #options: RecognitionOptions;
  readonly #resends: Resends;
  readonly #pool = new BufferPool();
  /** Spent on marks and copies since `refresh`. */
  #seconds = 0;
  #marks: { readonly key: Uint8Array; readonly of: RequestMarks } | undefined;

  constructor(options: RecognitionOptions) {
    this.#options = options;
    const { cacheEntriesMin, cacheEntriesMax } = options.settings.resend;
    this.#resends = new Resends({
      entriesMin: cacheEntriesMin,
      entriesMax: cacheEntriesMax,
      pressure: memoryPressure,
      instruments: options.instruments,
    });
  }

  /** Once a second. */
  refresh(): void {
    this.#resends.refresh();
    this.#options.instruments.resendSeconds.inc(this.#seconds);
    this.#seconds = 0;
  }

  /** Whether requests are recognised at all. */
  get enabled(): boolean {
    return this.#options.window.enabled;
  }

  /** What a mark is made with elsewhere; changes when Redis was emptied. */
  get key(): Uint8Array {
    return this.#options.window.key;
  }

  /** 16 bytes. @param bytes the request as protobuf */
  mark({ signal, tenant, source }: EncodedRequest, bytes: Uint8Array): Uint8Array {
    const { key } = this;
    if (this.#marks?.key !== key) this.#marks = { key, of: new RequestMarks(key) };
    const startedMs = tickMs();
    const mark = this.#marks.of.mark(signal, senderOf(tenant, source), bytes);
    this.#seconds += (tickMs() - startedMs) / 1000;
    return mark;
  }

  /** What this gateway knows of a request; undefined for one that is new to it. */
  recall(source: string, mark: Uint8Array): Recalled | undefined {
    if (this.#options.window.seconds(source) === 0) return undefined;
    const known = this.#resends.recall(mark);
    if (known === undefined) this.#options.window.counted();
    return known;
  }

  /**
   * A small request on its way into Redis. Its body is copied where it isn't kept, until the promise of
   * `store` has settled.
   * @param store gets what the commit needs, and how its rows were placed if it was stored in part before the
   *   shards changed. Called before this returns unless the latter has to be found out: only then may the
   *   request's bytes be gone, and have to be made anew
   */
  keep(
    request: EncodedRequest,
    mark: Uint8Array,
    store: (resend: Resendable, placing: Placing | undefined, isLater: boolean) => Promise<Outcome>,
  ): Promise<Outcome> {
    const { placements } = this.#options;
    const startedMs = tickMs();
    const copy = request.isKept ? undefined : this.#copy(request.body);
    // The body's own length is gone with it: the server takes its memory back.
    const { length } = request.body;
    const again = () => this.#decoded(copy ? { ...request, body: copy.subarray(0, length) } : request);
    this.#seconds += (tickMs() - startedMs) / 1000;
    const resend = this.#resendable(request, mark, again);
    const stored = placements.lookNeeded
      ? placements.of(mark).then((placing) => store(resend, placing, true))
      : store(resend, undefined, false);
    this.#resends.begin(mark, resend.seconds, stored);
    if (copy !== undefined) {
      const done = () => this.#pool.give(copy);
      stored.then(done, done);
    }
    return stored;
  }

  /** A request whose fragments are its own: it needn't be made anew. */
  begin(
    request: Pick<EncodedRequest, 'source' | 'requestId'>,
    mark: Uint8Array,
    store: (resend: Resendable) => Promise<Outcome>,
  ): Promise<Outcome> {
    const resend = this.#resendable(request, mark, () => {
      throw new Error('fragments of one request are not made anew');
    });
    const stored = store(resend);
    this.#resends.begin(mark, resend.seconds, stored);
    return stored;
  }

  #resendable(
    { source, requestId }: Pick<EncodedRequest, 'source' | 'requestId'>,
    mark: Uint8Array,
    again: () => Uint8Array,
  ): Resendable {
    return { mark, seconds: this.#options.window.seconds(source), again, requestId };
  }

  #copy(body: Uint8Array): Buffer {
    const copy = this.#pool.take(body.length);
    copy.set(body);
    return copy;
  }

  #decoded(request: EncodedRequest): Uint8Array {
    const { inlineBytesMax, requestBytesMax, nestingMax } = this.#options.settings.receive;
    const decoded = decodeRequest(request, Math.min(inlineBytesMax, requestBytesMax), nestingMax);
    assert(decoded.kind === 'ok', 'what was decoded once can be decoded again');
    return decoded.bytes;
  }
}
