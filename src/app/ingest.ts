/**
 * The way of a request between the ports and the queue: decode, recognise, transcode, group commit, count.
 * Small requests take the short way on this thread; large ones go through the large lane, so that nobody
 * waits behind them.
 */
import type { Recalled } from '../admit/resends.ts';
import { assert, Fault } from '../base/errors.ts';
import { inflatedSizeHint } from '../compress/inflate.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { Rate } from '../metrics/rate.ts';
import { Malformed } from '../model/block.ts';
import {
  type LaterReason,
  NOTHING,
  type Outcome,
  type Verdict,
  later,
  never,
} from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { GroupCommit, Placing, Resendable } from '../queue/commit.ts';
import type { Ingest, IngestRequest } from '../receive/ingest.ts';
import { type EncodedRequest, decodeRequest, malformed, tooLargeMessage } from './decode.ts';
import type { LargeLane } from './large-lane.ts';
import type { LaneResult } from './large-lane-protocol.ts';
import type { Placements } from './placements.ts';
import type { Recognition } from './recognition.ts';

/**
 * Clients come back after this long, up to twice as long: spread out, so that they don't all return at once.
 */
const RETRY_AFTER_MS = 1_000;

export interface IngestOptions {
  readonly receive: Settings['receive'];
  readonly commits: Readonly<Record<Signal, GroupCommit>>;
  readonly lane: LargeLane;
  /** How rows are placed now. */
  readonly placing: () => Placing;
  readonly placements: Placements;
  readonly recognition: Recognition;
  readonly instruments: Instruments;
}

export class GatewayIngest implements Ingest {
  readonly #options: IngestOptions;
  readonly #rates = new Map<Signal, Rate>(SIGNALS.map((signal) => [signal, new Rate()]));

  constructor(options: IngestOptions) {
    this.#options = options;
  }

  take(request: IngestRequest): Promise<Verdict> {
    const { inlineBytesMax, requestBytesMax, nestingMax } = this.#options.receive;
    const [body, ...more] = request.body;
    assert(body, 'a body has at least one piece');
    if (more.length > 0) return this.#large(request);
    const { signal, format, encoding, source, requestId, isKept } = request;
    if (body.length === 0 && format === 'protobuf') return Promise.resolve(this.#admitted(signal, NOTHING));
    if (inflatedSizeHint(body, encoding) > inlineBytesMax) return this.#large(request);
    const bytesMax = Math.min(inlineBytesMax, requestBytesMax);
    const whole = { signal, format, encoding, source, requestId, body, isKept };
    const decoded = decodeRequest(whole, bytesMax, nestingMax);
    if (decoded.kind === 'ok') return this.#small(whole, decoded.bytes);
    if (decoded.kind === 'never') return Promise.resolve(decoded);
    if (bytesMax < requestBytesMax) return this.#large(request);
    return Promise.resolve(never('too_large', tooLargeMessage(requestBytesMax)));
  }

  /** Brings the gauges of rates up to date. */
  refresh(): void {
    for (const [signal, rate] of this.#rates)
      this.#options.instruments.itemsPerSecond.set({ signal }, rate.perSecond(second()));
  }

  /** @param bytes valid until this returns its promise */
  async #small(request: EncodedRequest, bytes: Uint8Array): Promise<Verdict> {
    const { commits, recognition } = this.#options;
    const { signal, source } = request;
    const commit = commits[signal];
    try {
      if (!recognition.enabled) return this.#admitted(signal, await commit.submit(bytes));
      const mark = recognition.mark(request, bytes);
      const known = recognition.recall(source, mark);
      if (known !== undefined) return await this.#repeated(signal, known);
      const outcome = await recognition.keep(request, mark, (resend, placing, isLater) => {
        const now = isLater ? resend.again() : bytes;
        return placing === undefined ? commit.submit(now, resend) : commit.submitPlaced(now, resend, placing);
      });
      return this.#admitted(signal, outcome);
    } catch (error) {
      return error instanceof Malformed ? malformed(request, error) : refused(error);
    }
  }

  async #large(request: IngestRequest): Promise<Verdict> {
    const { lane, placing, placements, recognition } = this.#options;
    const { signal, source, body } = request;
    // Where it lay is known by its mark, and that by the thread: for then its bytes are needed once more.
    const copies = placements.lookNeeded ? body.map((piece) => piece.slice()) : undefined;
    try {
      const now = placing();
      const marking = recognition.enabled ? { key: recognition.key, source } : undefined;
      const made = await lane.take(request, now.weights, marking);
      if (made.kind === 'never') return made;
      if (made.mark === undefined) return await this.#storeFragments(request, made, now);
      const known = recognition.recall(source, made.mark);
      if (known !== undefined) return await this.#repeated(signal, known);
      const past = copies && (await placements.of(made.mark));
      if (past === undefined) return await this.#storeFragments(request, made, now);
      const again = await lane.take({ ...request, body: copies ?? [] }, past.weights, marking);
      return again.kind === 'never' ? again : await this.#storeFragments(request, again, past, true);
    } catch (error) {
      return refused(error);
    }
  }

  async #storeFragments(
    { signal, source, requestId }: IngestRequest,
    { fragments, outcome, mark }: LaneResult & { kind: 'fragments' },
    placing: Placing,
    isPast = false,
  ): Promise<Verdict> {
    const { commits, recognition } = this.#options;
    const commit = commits[signal];
    const store = (resend?: Resendable) =>
      commit.submitFragments(fragments, outcome, placing, resend, isPast);
    const stored =
      mark === undefined ? store() : recognition.begin({ source, requestId }, mark, store);
    return this.#admitted(signal, await stored);
  }

  async #repeated(signal: Signal, known: Recalled): Promise<Verdict> {
    const { instruments } = this.#options;
    const outcome = await known.outcome;
    instruments.repeats.inc({ signal, found: known.kind === 'stored' ? 'cache' : 'in_flight' });
    instruments.itemsDuplicate.inc({ signal }, outcome.accepted);
    return { kind: 'admit', outcome };
  }

  #admitted(signal: Signal, outcome: Outcome): Verdict {
    this.#rates.get(signal)?.add(outcome.accepted, second());
    const { itemsRejected } = this.#options.instruments;
    for (const [reason, count] of outcome.reasons) itemsRejected.inc({ signal, reason }, count);
    return { kind: 'admit', outcome };
  }
}

function second(): number {
  return Math.floor(performance.now() / 1000);
}

const LATER_FAULTS: readonly LaterReason[] = ['redis_full', 'replicas_missing', 'routing_changed'];

/** A fault of the world: the same request may pass later, and that is what the client is told. */
function refused(error: unknown): Verdict {
  // What nobody foresaw is logged and answered by the listeners.
  if (!(error instanceof Fault)) throw error;
  const reason = LATER_FAULTS.find((known) => known === error.code) ?? 'redis_unavailable';
  const message = `the data could not be stored (${error.code}); send it again`;
  return later(reason, message, RETRY_AFTER_MS * (1 + Math.random()));
}
