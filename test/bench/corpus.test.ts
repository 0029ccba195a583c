/**
 * Goal: the corpus is what it says it is: requests that a decoder written apart from it reads, of the sizes
 * and shares promised, the same for the same seed, and unique in every item however often a template is sent.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { createCorpus, ITEMS_PER_REQUEST } from '../../bench/corpus.ts';
import { pointStartNs, windowOfToday } from '../../bench/identity.ts';
import type { Format, Template } from '../../bench/template.ts';
import { REQUESTS } from '../../proto/fields.ts';
import { type Signal, SIGNALS } from '../../src/model/signal.ts';
import { decode, type Message } from '../oracle/decode.ts';
import { itemsOf } from './sink.ts';

const RUN = 0xc0ffee42;
const WINDOW = windowOfToday(Date.UTC(2025, 5, 17, 15, 4, 5));
const DAY = '2025-06-17';

function corpus(
  signal: Signal,
  format: Format,
  requests: number,
  extra: { seed?: number; requestItems?: number } = {},
) {
  return createCorpus({ signal, format, seed: 7, requests, run: RUN, window: WINDOW, ...extra });
}

function decoded(template: Template, request: number): Message {
  template.stamp(request);
  return decode(REQUESTS[template.signal], template.body);
}

type Node = Readonly<Record<string, unknown>>;
interface Trace {
  readonly value: { readonly stringValue: string };
}
interface HistogramPoint {
  readonly explicitBounds: readonly number[];
  readonly bucketCounts: readonly bigint[];
  readonly count: bigint;
}
const children = (node: Node, name: string): Node[] => (node[name] ?? []) as Node[];
const share = (nodes: readonly Node[], has: (node: Node) => boolean): number =>
  nodes.filter(has).length / nodes.length;
/** Within a quarter of what is wanted: the counts are in the hundreds at least. */
const expectNear = (value: number, wanted: number) => expect(Math.abs(value / wanted - 1)).toBeLessThan(0.25);
const has = (name: string) => (node: Node) => node[name] !== undefined;
const extent = (numbers: readonly number[]) => [Math.min(...numbers), Math.max(...numbers)];

/** The nodes at the end of a path of list fields. */
function all(roots: readonly Node[], ...path: readonly string[]): Node[] {
  return path.reduce<Node[]>((nodes, name) => nodes.flatMap((node) => children(node, name)), [...roots]);
}

const BYTES_PER_ITEM = { traces: 536, logs: 484, metrics: 263 };

describe.each(SIGNALS)('%s', (signal) => {
  let templates: Template[] = [];
  beforeAll(() => {
    templates = corpus(signal, 'protobuf', 10);
  });

  test('a request has the size promised', () => {
    const items = templates.map((template) => template.items);
    const [fewest, most] = ITEMS_PER_REQUEST[signal];
    expect(Math.min(...items)).toBeGreaterThanOrEqual(fewest);
    expect(Math.max(...items)).toBeLessThanOrEqual(most);
    const bytes =
      templates.reduce((sum, { body }) => sum + body.length, 0) / items.reduce((sum, one) => sum + one, 0);
    expect(Math.abs(bytes / BYTES_PER_ITEM[signal] - 1)).toBeLessThan(0.05);
  });

  test('it counts its items as the decoder does, and all lie within the day', () => {
    for (const [index, template] of templates.entries()) {
      const items = itemsOf(signal, decoded(template, index + 1));
      expect(items).toHaveLength(template.items);
      for (const { row } of items) {
        const ms = Number(BigInt(row.Timestamp ?? row.TimeUnix ?? '0') / 1_000_000n);
        expect(new Date(ms).toISOString().slice(0, 10)).toBe(DAY);
      }
    }
  });

  test('every item is another, whichever template and however often it is sent', () => {
    const seen = new Set<string>();
    let count = 0;
    for (let request = 1; request <= 30; request++) {
      const template = templates[request % 3] as Template;
      for (const { table, row } of itemsOf(signal, decoded(template, request))) {
        seen.add(
          signal === 'metrics' ? `${row.StartTimeUnix} ${row.TimeUnix}` : `${row.TraceId} ${row.SpanId}`,
        );
        expect(table).toMatch(/^otel_/);
        count++;
      }
    }
    expect(seen.size).toBe(count);
  });

  test('the same seed gives the same bytes, another seed others', () => {
    const body = (seed: number) => {
      const [template] = corpus(signal, 'protobuf', 1, { seed });
      template?.stamp(1);
      return template?.body.toString('latin1');
    };
    const [first, again, other] = [body(1), body(1), body(2)];
    // Compared as booleans: a difference of megabytes is nothing to print.
    expect(again === first).toBe(true);
    expect(other === first).toBe(false);
  });

  test.each([1, 2, 777])('exactly %i items when asked for', (requestItems) => {
    for (const template of corpus(signal, 'protobuf', 3, { requestItems })) {
      expect(itemsOf(signal, decoded(template, 5))).toHaveLength(requestItems);
    }
  });

  test('JSON says the same as protobuf', () => {
    const [binary] = corpus(signal, 'protobuf', 1, { requestItems: 50 });
    const [text] = corpus(signal, 'json', 1, { requestItems: 50 });
    text?.stamp(3);
    expect(comparable(JSON.parse(String(text?.body)))).toEqual(comparable(decoded(binary as Template, 3)));
  });

  test('a resource has 17 attributes, and the run among them', () => {
    const name = { traces: 'resourceSpans', logs: 'resourceLogs', metrics: 'resourceMetrics' }[signal];
    for (const { resource } of all([decoded(templates[0] as Template, 1)], name)) {
      const attributes = children(resource as Node, 'attributes');
      expect(attributes).toHaveLength(17);
      expect(attributes.find(({ key }) => key === 'bench.run')).toMatchObject({
        value: { stringValue: 'c0ffee42' },
      });
    }
  });
});

/** Ids as hex, 64-bit integers as text, whichever of the two notations they came in. */
function comparable(message: unknown): unknown {
  return JSON.parse(
    JSON.stringify(message, (name, value: unknown) => {
      if (typeof value === 'bigint') return String(value);
      const isBytes =
        /^(traceId|spanId|parentSpanId)$/.test(name) && !/^[0-9a-f]{16,32}$/.test(String(value));
      return isBytes ? Buffer.from(String(value), 'latin1').toString('hex') : value;
    }),
  );
}

test('spans have the shares promised', () => {
  const requests = corpus('traces', 'protobuf', 12).map(
    (template, index): Node => decoded(template, index + 1),
  );
  const spans = all(requests, 'resourceSpans', 'scopeSpans', 'spans');
  for (const request of requests) {
    const [fewest, most] = extent([children(request, 'resourceSpans').length]);
    expect(fewest).toBeGreaterThanOrEqual(4);
    expect(most).toBeLessThanOrEqual(8);
  }
  expect(extent(spans.map((span) => children(span, 'attributes').length))).toEqual([9, 12]);
  expectNear(share(spans, has('events')), 0.16);
  expect(extent(spans.filter(has('events')).map((span) => children(span, 'events').length))).toEqual([1, 3]);
  expectNear(share(spans, has('links')), 0.04);
  expectNear(share(spans, has('traceState')), 0.1);
  const failed = spans.filter(has('status'));
  expectNear(failed.length / spans.length, 0.02);
  for (const span of failed) {
    const [event] = children(span, 'events');
    const trace = children(event as Node, 'attributes').find(({ key }) => key === 'exception.stacktrace');
    expect(String((trace as unknown as Trace).value.stringValue).split('\n')).toHaveLength(12);
  }
  const sizes = [...Map.groupBy(spans, (span) => span.traceId).values()].map((trace) => trace.length);
  expect(extent(sizes)).toEqual([1, 24]);
  // Parents are spans of the same trace.
  const traceOf = new Map(spans.map((span) => [span.spanId, span.traceId]));
  for (const span of spans.filter(has('parentSpanId')))
    expect(traceOf.get(span.parentSpanId)).toBe(span.traceId);
});

test('log records have the shares promised', () => {
  const requests = corpus('logs', 'protobuf', 8).map((template, index): Node => decoded(template, index + 1));
  const records = all(requests, 'resourceLogs', 'scopeLogs', 'logRecords');
  const bodyText = ({ body }: Node) => String((body as Node).stringValue ?? '');
  expect(extent(records.map((record) => children(record, 'attributes').length))).toEqual([5, 9]);
  expectNear(
    share(records, ({ body }) => has('kvlistValue')(body as Node)),
    0.05,
  );
  expectNear(share(records, has('eventName')), 0.05);
  expectNear(
    share(records, (record) => bodyText(record).includes('\n\tat ')),
    0.1,
  );
  const hasArray = (record: Node) =>
    children(record, 'attributes').some(({ value }) => has('arrayValue')(value as Node));
  expectNear(share(records, hasArray), 0.12);
  const lengths = records
    .map(bodyText)
    .filter((text) => text !== '')
    .map((text) => text.length);
  expect(Math.min(...lengths)).toBeGreaterThanOrEqual(60);
  expect(Math.max(...lengths)).toBeLessThanOrEqual(900);
  for (const { traceId, spanId } of records)
    expect([String(traceId).length, String(spanId).length]).toEqual([16, 8]);
});

test('data points have the shares promised', () => {
  const requests = corpus('metrics', 'protobuf', 8).map(
    (template, index): Node => decoded(template, index + 1),
  );
  const metrics = all(requests, 'resourceMetrics', 'scopeMetrics', 'metrics');
  const shares = { gauge: 0.35, sum: 0.35, histogram: 0.18, exponentialHistogram: 0.07, summary: 0.05 };
  for (const [kind, wanted] of Object.entries(shares)) expectNear(share(metrics, has(kind)), wanted);
  const points = metrics.map((metric) =>
    children(Object.values(metric).find((value) => typeof value === 'object') as Node, 'dataPoints'),
  );
  expect(extent(points.map((list) => list.length))).toEqual([1, 12]);
  for (const point of points.flat()) {
    expect(children(point, 'attributes')).toHaveLength(5);
    expect(point.startTimeUnixNano).toBe(pointStartNs(RUN, WINDOW));
  }
  const histograms = points.flat().filter(has('explicitBounds'));
  for (const { explicitBounds, bucketCounts, count } of histograms as unknown as HistogramPoint[]) {
    expect([explicitBounds.length, bucketCounts.length]).toEqual([14, 15]);
    expect(bucketCounts.reduce((sum, one) => sum + one, 0n)).toBe(count);
  }
  expectNear(share(histograms, has('exemplars')), 0.25);
  const buckets = points
    .flat()
    .filter(has('positive'))
    .map(({ positive }) => children(positive as Node, 'bucketCounts').length);
  expect(Math.min(...buckets)).toBeGreaterThanOrEqual(20);
  expect(Math.max(...buckets)).toBeLessThanOrEqual(79);
});

test('a window begins at midnight and lasts an hour at least', () => {
  const shortlyAfter = windowOfToday(Date.UTC(2025, 5, 17, 0, 0, 1));
  expect(shortlyAfter).toEqual({ startNs: BigInt(Date.UTC(2025, 5, 17)) * 1_000_000n, lengthNs: 3600e9 });
  expect(windowOfToday(Date.UTC(2025, 5, 17, 23, 59, 59)).lengthNs).toBe(86_399e9);
});
