/**
 * The way of a request between the ports and the queue: decode, recognise, transcode, group commit, count.
 * Small requests take the short way on this thread; large ones go through the large lane, so that nobody
 * waits behind them.
 */
import { senderOf } from '../admit/request-mark.ts';
import type { Taken } from '../admit/shares.ts';
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
import { type Screening, TooManyItems, sum } from './screening.ts';

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
  readonly screening: Screening;
  /** Told what was taken, once it is stored. */
  readonly charge: (tenant: string, signal: Signal, taken: Taken) => void;
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
    const { signal, format, encoding, tenant, source, requestId, isKept } = request;
    if (body.length === 0 && format === 'protobuf') return Promise.resolve(this.#admitted(signal, NOTHING));
    if (inflatedSizeHint(body, encoding) > inlineBytesMax) return this.#large(request);
    const bytesMax = Math.min(inlineBytesMax, requestBytesMax);
    const whole = { signal, format, encoding, tenant, source, requestId, body, isKept };
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
    const { recognition } = this.#options;
    const { signal, source } = request;
    const sizes = { bytes: bytes.length, wireBytes: request.body.length };
    try {
      if (!recognition.enabled) return this.#taken(request, sizes, await this.#store(request, bytes));
      const mark = recognition.mark(request, bytes);
      const known = recognition.recall(source, mark);
      if (known !== undefined) return await this.#repeated(signal, known);
      const outcome = await recognition.keep(request, mark, (resend, placing, isLater) =>
        this.#store(request, isLater ? resend.again() : bytes, resend, placing),
      );
      return this.#taken(request, sizes, outcome);
    } catch (error) {
      return error instanceof Malformed ? malformed(request, error) : refused(error);
    }
  }

  #store(
    { signal, tenant }: EncodedRequest,
    bytes: Uint8Array,
    resend?: Resendable,
    placing?: Placing,
  ): Promise<Outcome> {
    const { commits, screening } = this.#options;
    return screening.store(commits[signal], { signal, tenant, bytes, resend, placing });
  }

  async #large(request: IngestRequest): Promise<Verdict> {
    const { lane, placing, placements, recognition, screening } = this.#options;
    const { signal, tenant, source, body } = request;
    // Its bytes are needed once more where only the thread can say how: it makes the mark by which is known
    // where the request lay, and finds the time series that may be too many.
    const again = placements.lookNeeded || screening.seriesWanted(signal);
    const copies = again ? body.map((piece) => piece.slice()) : [];
    // The pieces are the thread's from then on.
    const wireBytes = body.reduce((sum, { length }) => sum + length, 0);
    try {
      const now = placing();
      const key = recognition.enabled ? recognition.key : undefined;
      const marking = key && { key, sender: senderOf(tenant, source) };
      const take = (pieces: readonly Uint8Array[], where: Placing, overflow?: ReadonlySet<number>) =>
        lane.take({ ...request, body: pieces }, where.weights, marking, screening.settings, overflow);
      const made = await take(body, now);
      if (made.kind === 'never') return made;
      const known = made.mark && recognition.recall(source, made.mark);
      if (known !== undefined) return await this.#repeated(signal, known);
      const past = made.mark && placements.lookNeeded ? await placements.of(made.mark) : undefined;
      const overflow = screening.overflowOf(tenant, made.series);
      if (past === undefined && overflow === undefined)
        return await this.#storeFragments(request, wireBytes, made, now);
      const remade = await take(copies, past ?? now, overflow);
      if (remade.kind === 'never') return remade;
      return await this.#storeFragments(request, wireBytes, remade, past ?? now, past !== undefined);
    } catch (error) {
      return refused(error);
    }
  }

  async #storeFragments(
    request: IngestRequest,
    wireBytes: number,
    { fragments, outcome, mark, bytes, screened }: LaneResult & { kind: 'fragments' },
    placing: Placing,
    isPast = false,
  ): Promise<Verdict> {
    const { commits, recognition, screening } = this.#options;
    const { signal, source, requestId } = request;
    screening.countItems(signal, outcome.accepted + outcome.rejected + sum(screened.filtered));
    const store = (resend?: Resendable) =>
      commits[signal].submitFragments(fragments, outcome, placing, resend, isPast);
    const from = { source, requestId };
    const stored = await (mark === undefined ? store() : recognition.begin(from, mark, store));
    screening.count(signal, screened);
    return this.#taken(request, { bytes, wireBytes }, stored);
  }

  async #repeated(signal: Signal, known: Recalled): Promise<Verdict> {
    const { instruments } = this.#options;
    const outcome = await known.outcome;
    instruments.repeats.inc({ signal, found: known.kind === 'stored' ? 'cache' : 'in_flight' });
    instruments.itemsDuplicate.inc({ signal }, outcome.accepted);
    return { kind: 'admit', outcome };
  }

  #taken(
    { tenant, signal }: Pick<IngestRequest, 'tenant' | 'signal'>,
    sizes: Omit<Taken, 'items'>,
    outcome: Outcome,
  ): Verdict {
    this.#options.charge(tenant, signal, { ...sizes, items: outcome.accepted });
    return this.#admitted(signal, outcome);
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
  if (error instanceof TooManyItems) return never('too_many_items', error.message);
  // What nobody foresaw is logged and answered by the listeners.
  if (!(error instanceof Fault)) throw error;
  const reason = LATER_FAULTS.find((known) => known === error.code) ?? 'redis_unavailable';
  const message = `the data could not be stored (${error.code}); send it again`;
  return later(reason, message, RETRY_AFTER_MS * (1 + Math.random()));
}
