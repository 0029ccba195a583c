/**
 * Goal: a large request is shared out among shards as a small one is: by the weights that hold when it is
 * handed over, row by row, and without a row lost between the slices. And it is held to the same limits.
 */
import { afterAll, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { LargeLane } from '../../src/app/large-lane.ts';
import { encode, type PlainMessage } from '../oracle/encode.ts';
import { decodeNative } from '../oracle/native.ts';
import { shardByWeights, shardKeyOf } from '../oracle/shards.ts';
import { silent } from '../support/services.ts';
import { settingsOf } from '../support/settings.ts';

const SPANS = 400;
const settings = {
  engine: 'plain', nestingMax: 64, requestBytesMax: 1 << 26, zstdLevel: 'off', fragmentBytesMax: 10_000,
  seriesSeed: 7,
} as const;
const lane = new LargeLane(settings, silent);
afterAll(() => lane.close());

const PLAIN = {
  signal: 'traces', format: 'protobuf', encoding: 'identity', tenant: 'default',
} as const;

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
  const result = await lane.take({ ...PLAIN, body: [request()] }, weights, undefined, settingsOf());
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

test('rules and limits hold in every slice, and are counted together', async () => {
  const rules = [
    { name: 'ones', action: 'drop', when: [{ field: 'name', startsWith: 'span 1' }] },
    { name: 'none', action: 'drop', when: [{ field: 'name', equals: 'span' }] },
  ];
  const screen = settingsOf({ SLUICE_RULES: JSON.stringify(rules), SLUICE_TIME_PAST_MAX_HOURS: '24' });
  const result = await lane.take({ ...PLAIN, body: [request()] }, [1], undefined, screen);
  if (result.kind !== 'fragments') throw new Error(result.message);
  const dropped = Array.from({ length: SPANS }, (_, n) => `${n}`).filter((n) => n.startsWith('1')).length;
  // Their times are 0: a long time ago.
  expect(result.outcome).toMatchObject({ accepted: 0, rejected: SPANS - dropped });
  expect(result.screened.filtered).toEqual(new Map([['ones', dropped]]));
  expect(result.fragments).toEqual([]);
});

test('time series are told of the whole request, and those beyond the limit are marked where they stand', async () => {
  const metrics = Array.from({ length: 300 }, (_, n): PlainMessage => {
    const attributes = [{ key: 'series', value: { stringValue: `${n % 200}` } }];
    return { name: 'a metric', gauge: { dataPoints: [{ attributes, timeUnixNano: 1n, asDouble: n }] } };
  });
  const resourceMetrics = metrics.map((metric) => ({ scopeMetrics: [{ metrics: [metric] }] }));
  const body = () => [encode(REQUESTS.metrics, { resourceMetrics })];
  const screen = settingsOf({ SLUICE_LIMITS_SERIES_MAX: '100' });
  const asked = { ...PLAIN, signal: 'metrics' } as const;
  const first = await lane.take({ ...asked, body: body() }, [1], undefined, screen);
  if (first.kind !== 'fragments') throw new Error(first.message);
  expect(first.series.length).toBe(3 * 300);
  const names = Array.from({ length: 300 }, (_, n) => first.series.slice(3 * n, 3 * n + 3).join());
  expect(new Set(names).size).toBe(200);
  expect(names[250]).toBe(names[50]);
  const overflow = new Set([5, 299]);
  const second = await lane.take({ ...asked, body: body() }, [1], undefined, screen, overflow);
  if (second.kind !== 'fragments') throw new Error(second.message);
  expect(second.screened.trimmed).toEqual(new Map([['series', 2]]));
  const rows = second.fragments.flatMap(({ bytes }) => decodeNative(bytes).flatMap((block) => block.rows));
  const marked = rows.filter((row) => JSON.stringify(row.Attributes).includes('otel.metric.overflow'));
  // Doubles are decoded as their bits.
  const values = marked.map((row) => new Float64Array(BigUint64Array.of(row.Value as bigint).buffer)[0]);
  expect(values.sort()).toEqual([299, 5]);
});
