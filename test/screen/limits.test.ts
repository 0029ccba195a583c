/**
 * Goal: each limit lets in the last record that it allows and trims, refuses or counts the first one beyond, for
 * every kind of record, its resource and its scope.
 */
import { describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import type { Settings } from '../../src/config/settings.ts';
import { LIMIT_REASONS, type Limit } from '../../src/model/outcome.ts';
import type { Signal } from '../../src/model/signal.ts';
import { compileScreen } from '../../src/screen/screen.ts';
import { type Message, decode } from '../oracle/decode.ts';
import { type PlainMessage, encode } from '../oracle/encode.ts';
import { requestOf } from '../oracle/samples.ts';
import { settingsOf } from './support.ts';

const NOW_MS = 1_763_640_000_000;
const NOW_NS = BigInt(NOW_MS) * 1_000_000n;
const HOUR_NS = 3_600_000_000_000n;
const all = (count: number, value: PlainMessage = { stringValue: 'v' }) =>
  Array.from({ length: count }, (_, i) => ({ key: `k${i}`, value }));
type Limits = Partial<Settings['limits']>;

function timed(signal: Signal, fields: PlainMessage): PlainMessage {
  return { [signal === 'traces' ? 'startTimeUnixNano' : 'timeUnixNano']: NOW_NS, ...fields };
}

const METRICS = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'] as const;
type Kind = 'span' | 'log' | (typeof METRICS)[number];
const KINDS: readonly Kind[] = ['span', 'log', ...METRICS];

/** A request with one record of a kind. */
function requestWith(kind: Kind, fields: PlainMessage, around: PlainMessage = {}, inside: PlainMessage = {}) {
  if (kind === 'span') return make('traces', [timed('traces', fields)], around, inside);
  if (kind === 'log') return make('logs', [timed('logs', fields)], around, inside);
  return make('metrics', [{ name: 'm', [kind]: { dataPoints: [timed('metrics', fields)] } }], around, inside);
}

interface Request {
  readonly signal: Signal;
  readonly bytes: Uint8Array;
}
function make(signal: Signal, records: PlainMessage[], around: PlainMessage, inside: PlainMessage): Request {
  return { signal, bytes: encode(REQUESTS[signal], requestOf(signal, records, around, inside)) };
}

function screen({ signal, bytes }: Request, limits: Limits, overflow?: (ordinal: number) => boolean) {
  const settings = settingsOf({ refuse: new Set<Limit>(), ...limits }, [], 2);
  return compileScreen(settings).apply(signal, bytes, { tenant: 'default', nowMs: NOW_MS, overflow });
}

/** The first record of a request. */
function recordOf(signal: Signal, bytes: Uint8Array): Message {
  let node: unknown = decode(REQUESTS[signal], bytes);
  const path = {
    traces: ['resourceSpans', 'scopeSpans', 'spans'],
    logs: ['resourceLogs', 'scopeLogs', 'logRecords'],
    metrics: ['resourceMetrics', 'scopeMetrics', 'metrics'],
  }[signal];
  for (const name of path) node = (node as Record<string, unknown[]>)[name]?.[0];
  if (signal !== 'metrics') return node as Message;
  const data = METRICS.map((kind) => (node as Message)[kind]).find((found) => found !== undefined) as Message;
  return (data['dataPoints'] as Message[])[0] as Message;
}

/** Every limit in three ways: what is within stays, what is beyond is trimmed, refused or counted. */
function checkLimit(limit: Limit, fits: Request, beyond: Request, limits: Limits): Uint8Array {
  expect(screen(fits, limits)).toMatchObject({ trimmed: new Map(), rejected: new Map() });
  expect(screen(fits, limits).bytes).toBe(fits.bytes);
  const trimmed = screen(beyond, limits);
  expect(trimmed).toMatchObject({ trimmed: new Map([[limit, 1]]), rejected: new Map(), over: new Map() });
  const refused = screen(beyond, { ...limits, refuse: new Set([limit]) });
  if (limit !== 'nesting') {
    expect(refused).toMatchObject({ trimmed: new Map(), rejected: new Map([[LIMIT_REASONS[limit], 1]]) });
    expect(refused.bytes).toHaveLength(0);
  }
  const counted = screen(beyond, { ...limits, mode: 'dry_run' });
  expect(counted).toMatchObject({ trimmed: new Map(), rejected: new Map(), over: new Map([[limit, 1]]) });
  expect(counted.bytes).toBe(beyond.bytes);
  return trimmed.bytes;
}

describe.each(KINDS)('of a %s', (kind) => {
  const hasCount = kind === 'span' || kind === 'log';
  test('attributes: the first ones stay, and how many are missing is said where it can be', () => {
    const beyond = requestWith(kind, { attributes: all(4), ...(hasCount ? { droppedAttributesCount: 5 } : {}) });
    const fits = requestWith(kind, { attributes: all(3) });
    const left = recordOf(beyond.signal, checkLimit('attributes', fits, beyond, { attributesMax: 3 }));
    expect((left['attributes'] as Message[]).map(({ key }) => key)).toEqual(['k0', 'k1', 'k2']);
    expect(left['droppedAttributesCount']).toBe(hasCount ? 6 : undefined);
  });
  test.each(['resource', 'scope'])('attributes of its %s', (name) => {
    const put = (count: number) => {
      const holder = { [name]: { attributes: all(count) } };
      return name === 'resource' ? requestWith(kind, {}, holder) : requestWith(kind, {}, {}, holder);
    };
    checkLimit('attributes', put(3), put(4), { attributesMax: 3 });
  });
  test('values: texts are cut, with a mark, and so are bytes and what is inside of arrays and maps', () => {
    const inside = (text: string) => ({
      kvlistValue: { values: [{ key: 'k', value: { arrayValue: { values: [{ stringValue: text }] } } }] },
    });
    for (const wrap of [(text: string) => ({ stringValue: text }), inside]) {
      const fits = requestWith(kind, { attributes: all(1, wrap('x'.repeat(40))) });
      const beyond = requestWith(kind, { attributes: all(1, wrap('x'.repeat(41))) });
      const bytes = checkLimit('value_bytes', fits, beyond, { valueBytesMax: 40 });
      expect(Buffer.from(bytes).toString()).toContain(`${'x'.repeat(17)}…[truncated 24 bytes]`);
    }
    const raw = (size: number) => requestWith(kind, { attributes: all(1, { bytesValue: new Uint8Array(size) }) });
    checkLimit('value_bytes', raw(40), raw(41), { valueBytesMax: 40 });
  });
  test('nesting: what is deeper becomes a text that says so', () => {
    const nested = (depth: number): PlainMessage =>
      depth === 0 ? { intValue: 1n } : { arrayValue: { values: [nested(depth - 1)] } };
    const fits = requestWith(kind, { attributes: all(1, nested(2)) });
    const beyond = requestWith(kind, { attributes: all(1, nested(3)) });
    const bytes = checkLimit('nesting', fits, beyond, {});
    expect(Buffer.from(bytes).toString()).toContain('[nested too deep]');
  });
  test.each([
    ['time_past', { timePastMaxHours: 2 }, NOW_NS - 2n * HOUR_NS, -1n],
    ['time_future', { timeFutureMaxHours: 2 }, NOW_NS + 2n * HOUR_NS, 1n],
    ['time_past', { timePastMaxHours: 9, timePastBySignal: new Map([[kind === 'span' ? 'traces' : 'x', 2]]) },
      NOW_NS - (kind === 'span' ? 2n : 9n) * HOUR_NS, -1n],
  ] as const)('%s: exact to the nanosecond; moved to the edge (%#)', (limit, limits, edge, step) => {
    const name = kind === 'span' ? 'startTimeUnixNano' : 'timeUnixNano';
    const fits = requestWith(kind, { [name]: edge });
    const beyond = requestWith(kind, { [name]: edge + step });
    const left = recordOf(beyond.signal, checkLimit(limit, fits, beyond, limits as Limits));
    expect(left[name]).toBe(edge);
  });
});

describe('of a span', () => {
  test.each([['events', 'droppedEventsCount'], ['links', 'droppedLinksCount']] as const)('%s', (limit, count) => {
    const list = (n: number) => Array.from({ length: n }, (_, i) => ({ droppedAttributesCount: i + 1 }));
    const fits = requestWith('span', { [limit]: list(2) });
    const beyond = requestWith('span', { [limit]: list(4), [count]: 4294967295 });
    const left = recordOf('traces', checkLimit(limit, fits, beyond, { [`${limit}Max`]: 2 }));
    expect(left[limit]).toHaveLength(2);
    expect(left[count]).toBe(4294967295);
  });
  test('one that is moved keeps its duration', () => {
    const fields = { startTimeUnixNano: 5n, endTimeUnixNano: 12n };
    const { bytes } = screen(requestWith('span', fields), { timePastMaxHours: 1 });
    const { startTimeUnixNano, endTimeUnixNano } = recordOf('traces', bytes);
    expect(startTimeUnixNano).toBe(NOW_NS - HOUR_NS);
    expect(endTimeUnixNano).toBe(NOW_NS - HOUR_NS + 7n);
  });
});

describe('of a log record', () => {
  test('its body is a value', () => {
    const put = (text: string) => requestWith('log', { body: { stringValue: text } });
    const bytes = checkLimit('value_bytes', put('x'.repeat(30)), put('x'.repeat(31)), { valueBytesMax: 30 });
    expect(Buffer.from(bytes).toString()).toContain('…[truncated 24 bytes]');
  });
  test('without a time it is as old as when it was observed', () => {
    const put = (ns: bigint) => requestWith('log', { timeUnixNano: 0n, observedTimeUnixNano: ns });
    const edge = NOW_NS - HOUR_NS;
    const left = recordOf('logs', checkLimit('time_past', put(edge), put(edge - 1n), { timePastMaxHours: 1 }));
    expect(left['observedTimeUnixNano']).toBe(edge);
  });
});

describe('series', () => {
  const points = [1n, 2n, 3n].map((asInt) => ({ timeUnixNano: NOW_NS, asInt, attributes: all(2) }));
  const request = make('metrics', [{ name: 'm', sum: { dataPoints: points } }], {}, {});
  test('points beyond are marked', () => {
    const { bytes, trimmed } = screen(request, {}, (ordinal) => ordinal === 0);
    expect(trimmed).toEqual(new Map([['series', 1]]));
    expect(recordOf('metrics', bytes)['attributes']).toEqual([
      { key: 'otel.metric.overflow', value: { boolValue: true } },
    ]);
  });
  test('or refused', () => {
    const { bytes, rejected } = screen(request, { refuse: new Set<Limit>(['series']) }, (ordinal) => ordinal !== 1);
    expect(rejected).toEqual(new Map([['too_many_series', 2]]));
    expect(recordOf('metrics', bytes)['asInt']).toBe(2n);
  });
  test('or counted', () => {
    const { bytes, over } = screen(request, { mode: 'dry_run' }, () => true);
    expect([bytes, over]).toEqual([request.bytes, new Map([['series', 3]])]);
  });
});

describe('where a text is cut', () => {
  const cases: readonly (readonly [text: string, max: number, left: string])[] = [
    ['ä'.repeat(30), 40, `${'ä'.repeat(8)}…[truncated 44 bytes]`],
    ['😀'.repeat(20), 41, `${'😀'.repeat(4)}…[truncated 64 bytes]`],
    ['abcdef', 3, 'abc'],
    ['aäb', 2, 'a'],
    ['😀x', 3, ''],
    [`${'x'.repeat(79)}ü${'y'.repeat(40)}`, 103, `${'x'.repeat(79)}…[truncated 42 bytes]`],
  ];
  test.each(cases)('%s within %d bytes', (text, valueBytesMax, left) => {
    const { bytes } = screen(requestWith('log', { body: { stringValue: text } }), { valueBytesMax });
    const body = recordOf('logs', bytes)['body'] as Message;
    const found = Buffer.from(String(body['stringValue']), 'latin1');
    expect(found.toString()).toBe(left);
    expect(found.length).toBeLessThanOrEqual(valueBytesMax);
  });
});

describe('what the transcoder is told to look out for', () => {
  const bounds = (limits: Limits, signal: Signal = 'traces') =>
    compileScreen(settingsOf(limits)).bounds(signal, NOW_MS);
  test('nothing without a limit', () => expect(bounds({})).toBeUndefined());
  test('numbers as they are set, times from now', () => {
    expect(bounds({ attributesMax: 7, eventsMax: 3, timePastMaxHours: 1 })).toEqual({
      attributesMax: 7, valueBytesMax: 0, eventsMax: 3, linksMax: 0, timeMinMs: NOW_MS - 3_600_000,
      timeMaxMs: 0, nesting: false, series: false,
    });
  });
  test('events are no matter of logs', () => expect(bounds({ eventsMax: 3 }, 'logs')).toBeUndefined());
  test('series of metrics', () => {
    expect(bounds({ seriesMax: 3 }, 'metrics')).toMatchObject({ series: true });
    expect(bounds({ seriesMax: 3 })).toBeUndefined();
  });
});
