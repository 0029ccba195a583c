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
import { Malformed, type OpenBlocks } from '../model/block.ts';
import { type Outcome, sumOutcomes } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import { createOpenBlocks } from '../transcode/open-blocks.ts';
import { sliceRequest } from '../transcode/slices.ts';
import { decodeRequest, malformed, tooLargeMessage } from './decode.ts';
import type { LaneAnswer, LaneRequest, LaneResult, LaneSettings } from './large-lane-protocol.ts';

const settings = workerData as LaneSettings;
const compressor = createFrameCompressor(settings.zstdLevel);
const blocks = new Map<Signal, OpenBlocks>();
for (const signal of SIGNALS) {
  blocks.set(signal, await createOpenBlocks(signal, settings.engine, { nestingMax: settings.nestingMax }));
}

assert(parentPort, 'this file runs as a worker thread');
const port = parentPort;
port.on('message', (request: LaneRequest) => {
  const result = take(request);
  const buffers =
    result.kind === 'fragments' ? result.fragments.map(({ bytes }) => bytes.buffer as ArrayBuffer) : [];
  port.postMessage({ id: request.id, result } satisfies LaneAnswer, [...new Set(buffers)]);
});

function take({ signal, format, encoding, weights, pieces, marking }: LaneRequest): LaneResult {
  const source = marking?.source ?? '';
  const of = { signal, format, encoding, source, requestId: undefined };
  const request = { ...of, body: Buffer.concat(pieces), isKept: true };
  const decoded = decodeRequest(request, settings.requestBytesMax, settings.nestingMax);
  if (decoded.kind === 'too_large') {
    const message = tooLargeMessage(settings.requestBytesMax);
    return { kind: 'never', reason: 'too_large', message };
  }
  if (decoded.kind === 'never') return decoded;
  try {
    const made = transcode(signal, weights, decoded.bytes);
    if (marking === undefined) return made;
    return { ...made, mark: new RequestMarks(marking.key).mark(signal, source, decoded.bytes) };
  } catch (error) {
    if (error instanceof Malformed) return malformed(request, error);
    throw error;
  }
}

type Made = LaneResult & { readonly kind: 'fragments' };

/** @throws Malformed with the offset in the whole request. */
function transcode(signal: Signal, weights: readonly number[], request: Uint8Array): Made {
  const open = blocks.get(signal);
  assert(open, 'a transcoder for every signal');
  open.route(weights);
  const fragments: Fragment[] = [];
  const outcomes: Outcome[] = [];
  for (const slice of sliceRequest(request, settings.fragmentBytesMax)) {
    try {
      outcomes.push(open.append(slice));
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
  return { kind: 'fragments', fragments, outcome: sumOutcomes(outcomes), mark: undefined };
}

/** Only a buffer of its own can be transferred. */
function unshared(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice();
}
