/**
 * The way of a request between the ports and the queue: decode, transcode, group commit, count. Small
 * requests take the short way on this thread; large ones go through the large lane, so that nobody waits
 * behind them.
 */
import { assert, Fault } from '../base/errors.ts';
import { inflatedSizeHint } from '../compress/inflate.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { Rate } from '../metrics/rate.ts';
import { Malformed } from '../model/block.ts';
import { NOTHING, type Outcome, type Verdict, later, never } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { GroupCommit } from '../queue/commit.ts';
import type { Ingest, IngestRequest } from '../receive/ingest.ts';
import { type EncodedRequest, decodeRequest, malformed, tooLargeMessage } from './decode.ts';
import type { LargeLane } from './large-lane.ts';

/**
 * Clients come back after this long, up to twice as long: spread out, so that they don't all return at once.
 */
const RETRY_AFTER_MS = 1_000;

export interface IngestOptions {
  readonly receive: Settings['receive'];
  readonly commits: Readonly<Record<Signal, GroupCommit>>;
  readonly lane: LargeLane;
  readonly instruments: Instruments;
}

export interface CountingIngest extends Ingest {
  /** Brings the gauges of rates up to date. */
  refresh(): void;
}

export function createIngest(options: IngestOptions): CountingIngest {
  const { receive, commits, lane, instruments } = options;
  const rates = Object.fromEntries(SIGNALS.map((signal) => [signal, new Rate()])) as Record<Signal, Rate>;

  const admitted = (signal: Signal, outcome: Outcome): Verdict => {
    instruments.itemsAccepted.inc({ signal }, outcome.accepted);
    rates[signal].add(outcome.accepted, second());
    for (const [reason, count] of outcome.reasons) instruments.itemsRejected.inc({ signal, reason }, count);
    return { kind: 'admit', outcome };
  };

  const small = async (request: EncodedRequest, bytes: Uint8Array): Promise<Verdict> => {
    try {
      return admitted(request.signal, await commits[request.signal].submit(bytes));
    } catch (error) {
      if (error instanceof Malformed) return malformed(request, error);
      return refused(error);
    }
  };

  const large = async (request: IngestRequest): Promise<Verdict> => {
    try {
      const result = await lane.take(request);
      if (result.kind === 'never') return result;
      const { fragments, outcome } = result;
      return admitted(request.signal, await commits[request.signal].submitFragments(fragments, outcome));
    } catch (error) {
      return refused(error);
    }
  };

  return {
    take(request) {
      const [body, ...more] = request.body;
      assert(body, 'a body has at least one piece');
      if (more.length > 0) return large(request);
      const { signal, format, encoding } = request;
      if (body.length === 0 && format === 'protobuf') return Promise.resolve(admitted(signal, NOTHING));
      if (inflatedSizeHint(body, encoding) > receive.inlineBytesMax) return large(request);
      const bytesMax = Math.min(receive.inlineBytesMax, receive.requestBytesMax);
      const whole = { signal, format, encoding, body };
      const decoded = decodeRequest(whole, bytesMax, receive.nestingMax);
      if (decoded.kind === 'ok') return small(whole, decoded.bytes);
      if (decoded.kind === 'never') return Promise.resolve(decoded);
      if (bytesMax < receive.requestBytesMax) return large(request);
      return Promise.resolve(never('too_large', tooLargeMessage(receive.requestBytesMax)));
    },
    refresh() {
      for (const signal of SIGNALS)
        instruments.itemsPerSecond.set({ signal }, rates[signal].perSecond(second()));
    },
  };
}

function second(): number {
  return Math.floor(performance.now() / 1000);
}

/** A fault of the world: the same request may pass later, and that is what the client is told. */
function refused(error: unknown): Verdict {
  // What nobody foresaw is logged and answered by the listeners.
  if (!(error instanceof Fault)) throw error;
  const reason = error.code === 'redis_full' ? 'redis_full' : 'redis_unavailable';
  const message = `the data could not be stored (${error.code}); send it again`;
  return later(reason, message, RETRY_AFTER_MS * (1 + Math.random()));
}
