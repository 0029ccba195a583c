/**
 * Goal: a large request is shared out among shards as a small one is: by the weights that hold when it is
 * handed over, row by row, and without a row lost between the slices.
 */
import { afterAll, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { LargeLane } from '../../src/app/large-lane.ts';
import { encode, type PlainMessage } from '../oracle/encode.ts';
import { decodeNative } from '../oracle/native.ts';
import { shardByWeights, shardKeyOf } from '../oracle/shards.ts';
import { silent } from '../support/services.ts';

const SPANS = 400;
const settings = {
  engine: 'plain', nestingMax: 64, requestBytesMax: 1 << 26, zstdLevel: 'off', fragmentBytesMax: 10_000,
} as const;
const lane = new LargeLane(settings, silent);
afterAll(() => lane.close());

/** Spans of different traces, in so many resources that the request is cut into slices. */
function request(): Uint8Array {
  const spans = Array.from({ length: SPANS }, (_, index): PlainMessage => {
    const ids = { traceId: Buffer.alloc(16, 1 + (index % 255)), spanId: Buffer.alloc(8, 1) };
    return { ...ids, name: `span ${index}` };
  });
  const resourceSpans = spans.map((span) => ({ scopeSpans: [{ spans: [span] }] }));
  return encode(REQUESTS.traces, { resourceSpans });
}

test.each([
  { weights: [1, 1], holding: [1, 1] },
  { weights: [0, 3, 1], holding: [0, 3, 1] }, { weights: [1], holding: [1] },
])('weights $weights', async ({ weights, holding }) => {
  const plain = { signal: 'traces', format: 'protobuf', encoding: 'identity' } as const;
  const result = await lane.take({ ...plain, body: [request()] }, weights, undefined);
  if (result.kind !== 'fragments') throw new Error(result.message);
  expect(result.outcome).toMatchObject({ accepted: SPANS, rejected: 0 });
  expect(result.fragments.length).toBeGreaterThan(holding.length);
  let rows = 0;
  for (const { shard, table, bytes } of result.fragments) {
    const found = decodeNative(bytes).flatMap((block) => block.rows);
    const shards = found.map((row) => shardByWeights(holding, shardKeyOf(table, row)));
    expect(new Set(shards)).toEqual(new Set([shard]));
    rows += found.length;
  }
  expect(rows).toBe(SPANS);
});
