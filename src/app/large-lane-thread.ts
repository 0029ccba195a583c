/**
 * The thread for large requests: inflates, transcodes and compresses where nobody waits for it, and hands
 * back finished fragments. All or nothing: a request that turns out malformed in its last piece gives no
 * fragment at all.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { RequestMarks } from '../admit/request-mark.ts';
import { assert } from '../base/errors.ts';
import { createFrameCompressor } from '../compress/frame.ts';
import type { Fragment } from '../model/batch.ts';
import { Malformed, NO_BOUNDS, type OpenBlocks, WORDS_OF_POINT } from '../model/block.ts';
import { type Limit, type Outcome, type RejectReason, sumOutcomes } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import { type Screen, compileScreen } from '../screen/screen.ts';
import { createOpenBlocks } from '../transcode/open-blocks.ts';
import { sliceRequest } from '../transcode/slices.ts';
import { decodeRequest, malformed, tooLargeMessage } from './decode.ts';
import type { LaneAnswer, LaneRequest, LaneResult, LaneSettings } from './large-lane-protocol.ts';
import { withRejected } from './screening.ts';

const settings = workerData as LaneSettings;
const compressor = createFrameCompressor(settings.zstdLevel);
const blocks = new Map<Signal, OpenBlocks>();
for (const signal of SIGNALS) {
  blocks.set(signal, await createOpenBlocks(signal, settings.engine, settings));
}
let screening: { readonly json: string; readonly screen: Screen } | undefined;

assert(parentPort, 'this file runs as a worker thread');
const port = parentPort;
port.on('message', (request: LaneRequest) => {
  const result = take(request);
  const buffers =
    result.kind === 'fragments' ? result.fragments.map(({ bytes }) => bytes.buffer as ArrayBuffer) : [];
  port.postMessage({ id: request.id, result } satisfies LaneAnswer, [...new Set(buffers)]);
});

function take(asked: LaneRequest): LaneResult {
  const { signal, format, encoding, tenant, pieces, marking } = asked;
  const of = { signal, format, encoding, tenant, source: '', requestId: undefined };
  const request = { ...of, body: Buffer.concat(pieces), isKept: true };
  const decoded = decodeRequest(request, settings.requestBytesMax, settings.nestingMax);
  if (decoded.kind === 'too_large') {
    const message = tooLargeMessage(settings.requestBytesMax);
    return { kind: 'never', reason: 'too_large', message };
  }
  if (decoded.kind === 'never') return decoded;
  try {
    const made = transcode(asked, decoded.bytes);
    if (marking === undefined) return made;
    const mark = new RequestMarks(marking.key).mark(signal, marking.sender, decoded.bytes);
    return { ...made, mark };
  } catch (error) {
    if (error instanceof Malformed) return malformed(request, error);
    throw error;
  }
}

type Made = LaneResult & { readonly kind: 'fragments' };

/** @throws Malformed with the offset in the whole request. */
function transcode(asked: LaneRequest, request: Uint8Array): Made {
  const { signal, tenant, weights, overflow } = asked;
  const mark = asked.screen.tenants.column ? tenant : undefined;
  const open = blocks.get(signal);
  assert(open, 'a transcoder for every signal');
  open.route(weights);
  const screen = screenOf(asked.screen);
  const fragments: Fragment[] = [];
  const outcomes: Outcome[] = [];
  const counts = noCounts();
  const series: Uint32Array[] = [];
  for (const slice of sliceRequest(request, settings.fragmentBytesMax)) {
    const points = lengthOf(series) / WORDS_OF_POINT;
    try {
      outcomes.push(append(open, { signal, tenant, overflow, screen, mark, points }, slice, counts, series));
    } catch (error) {
      const before = slice.byteOffset - request.byteOffset;
      if (error instanceof Malformed && before > 0)
        throw new Malformed(error.reason, error.byteOffset + before);
      throw error;
    }
    for (const { shard, table, rows, bytes } of open.close()) {
      const frame = unshared(compressor.compress(bytes));
      fragments.push({ shard, table, layout: compressor.layout, rows, bytes: frame });
    }
  }
  const outcome = withRejected(sumOutcomes(outcomes), counts);
  const made = { fragments, outcome, mark: undefined, bytes: request.length, screened: counts };
  return { kind: 'fragments', ...made, series: joined(series) };
}

function lengthOf(pieces: readonly Uint32Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

function joined(pieces: readonly Uint32Array[]): Uint32Array<ArrayBuffer> {
  const all = new Uint32Array(lengthOf(pieces));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** How a slice is looked at: as its request, and where in it the slice begins. */
interface Looked extends Pick<LaneRequest, 'signal' | 'tenant' | 'overflow'> {
  readonly screen: Screen;
  /** Written into its rows. */
  readonly mark: string | undefined;
  /** Data points of the slices before it. */
  readonly points: number;
}

/**
 * As Screening.store does it, but for one thing: which time series are beyond the limit is said beforehand.
 * @param counts gets what the screen did, `series` the time series of the slice
 */
function append(
  open: OpenBlocks,
  { signal, tenant, screen, mark, overflow, points }: Looked,
  slice: Uint8Array,
  counts: ReturnType<typeof noCounts>,
  series: Uint32Array[],
): Outcome {
  const nowMs = Date.now();
  const bounds = screen.bounds(signal, nowMs);
  const hasRules = screen.hasRules(signal, tenant);
  if (bounds !== undefined && (!hasRules || bounds.series)) {
    const looked = hasRules ? { ...NO_BOUNDS, series: bounds.series } : bounds;
    const outcome = open.appendWithin(slice, looked, mark);
    if (bounds.series) series.push(seriesOf(open, slice, outcome !== undefined, mark));
    if (outcome !== undefined && !hasRules && overflow === undefined) return outcome;
    if (outcome !== undefined) open.undo();
  }
  if (bounds === undefined && !hasRules) return open.append(slice, mark);
  const beyond = overflow && ((ordinal: number) => overflow.has(points + ordinal));
  const screened = screen.apply(signal, slice, { tenant, nowMs, overflow: beyond });
  for (const what of COUNTS) add(counts[what], screened[what]);
  return open.append(screened.bytes, mark);
}

/** Also of a slice that exceeds another bound. */
function seriesOf(open: OpenBlocks, slice: Uint8Array, isAppended: boolean, mark: string | undefined) {
  if (isAppended) return open.series().slice();
  open.appendWithin(slice, { ...NO_BOUNDS, series: true }, mark);
  const series = open.series().slice();
  open.undo();
  return series;
}

function screenOf(now: LaneRequest['screen']): Screen {
  const json = JSON.stringify(now, (_, value) =>
    value instanceof Map || value instanceof Set ? [...value] : value,
  );
  if (screening?.json !== json) screening = { json, screen: compileScreen(now) };
  return screening.screen;
}

const COUNTS = ['rejected', 'trimmed', 'over', 'filtered', 'redacted'] as const;

function noCounts() {
  return {
    rejected: new Map<RejectReason, number>(),
    trimmed: new Map<Limit, number>(),
    over: new Map<Limit, number>(),
    filtered: new Map<string, number>(),
    redacted: new Map<string, number>(),
  };
}

function add(to: Map<string, number>, counts: ReadonlyMap<string, number>): void {
  for (const [name, count] of counts) to.set(name, (to.get(name) ?? 0) + count);
}

/** Only a buffer of its own can be transferred. */
function unshared(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice();
}
