/**
 * Requests whose every record carries a number of its own, twice, so that each can be counted in ClickHouse
 * and a mix-up shows: in the attribute `chaos.number`, and in the span id, the log's body or the point's
 * time. Encoded once as a template and patched in place: a record costs the clients next to nothing.
 */
import { encodeJson } from '../../../bench/corpus/json.ts';
import type { Mark, Tree } from '../../../bench/corpus/slot.ts';
import { encodeProtobuf } from '../../../bench/protobuf.ts';
import { FRAME_HEAD_BYTES, type Format } from '../../../bench/template.ts';
import type { MessageName } from '../../../proto/fields.ts';
import type { Signal } from '../../../src/model/signal.ts';

/** Of a request; the numbers of two requests are so far apart that they never meet. */
export const REQUEST_RECORDS_MAX = 500;
const STRIDE = 512;
const DIGITS = 13;
/** Records of a trace within a request, and series of a request: enough for it to span every shard. */
const TRACE_RECORDS = 8;
const SERIES = 16;

export function numberOf(request: number, record: number): number {
  return request * STRIDE + record;
}

/** The kinds of points take turns, so that a request goes to several tables. */
export const POINT_TABLES = ['otel_metrics_gauge', 'otel_metrics_sum', 'otel_metrics_histogram'] as const;

export interface Contents {
  readonly signal: Signal;
  readonly format: Format;
  /** Numbered from 1 over all signals. */
  readonly request: number;
  readonly records: number;
  readonly service: string;
  /** Of the first record, in whole seconds since 1970; each further one is a nanosecond later. */
  readonly seconds: number;
}

/** @returns FRAME_HEAD_BYTES of room and the body, in a buffer of its own */
export function encodeRequest(contents: Contents): Buffer {
  const { signal, format, request, records, seconds } = contents;
  const templates = TEMPLATES[format][signal];
  const { head, tail, separator } = envelope(contents, bytesOf(templates, records));
  const bytes = head.length + bytesOf(templates, records) + separator * (records - 1) + tail.length;
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + bytes);
  let at = FRAME_HEAD_BYTES + head.copy(frame, FRAME_HEAD_BYTES);
  for (let record = 0; record < records; record++) {
    const template = templates[record % templates.length] as RecordTemplate;
    template.bytes.copy(frame, at);
    template.patch(frame, at, request, record, seconds);
    at += template.bytes.length;
    if (separator > 0 && record < records - 1) at += frame.write(',', at);
  }
  tail.copy(frame, at);
  return frame;
}

/** Who sent a request stands in its resource; the rest of OTLP's envelope is the same for all signals. */
function envelope({ signal, format, service }: Contents, recordBytes: number) {
  const resource: Tree = { attributes: [attribute('service.name', service)] };
  if (format === 'json') {
    const name = { traces: 'Spans', logs: 'Logs', metrics: 'Metrics' }[signal];
    const list = { traces: 'spans', logs: 'logRecords', metrics: 'metrics' }[signal];
    const of = Buffer.from(encodeJson('Resource', resource).bytes).toString();
    const head = `{"resource${name}":[{"resource":${of},"scope${name}":[{"${list}":[`;
    return { head: Buffer.from(head), tail: Buffer.from(']}]}]}'), separator: 1 };
  }
  const of = Buffer.from(encodeProtobuf('Resource', resource).bytes);
  const scope = Buffer.from([0x12, ...varint(recordBytes)]);
  const inner = Buffer.concat([Buffer.from([0x0a, ...varint(of.length)]), of, scope]);
  const outer = Buffer.from([0x0a, ...varint(inner.length + recordBytes)]);
  return { head: Buffer.concat([outer, inner]), tail: Buffer.alloc(0), separator: 0 };
}

function bytesOf(templates: readonly RecordTemplate[], records: number): number {
  let bytes = 0;
  for (const [index, template] of templates.entries()) {
    const rounds = Math.floor((records - index + templates.length - 1) / templates.length);
    bytes += template.bytes.length * Math.max(0, rounds);
  }
  return bytes;
}

const NUMBER = '#'.repeat(DIGITS);
const NAME = '@@';

/** One record with zeros where the values go. */
class RecordTemplate {
  readonly bytes: Buffer;
  readonly #json: boolean;
  readonly #numbers: readonly number[];
  readonly #names: readonly number[];
  readonly #marks: readonly Mark[];

  constructor(message: MessageName, format: Format, tree: Tree) {
    this.#json = format === 'json';
    const { bytes, marks } = this.#json ? encodeJson(message, tree) : encodeProtobuf(message, tree);
    // In a protobuf list each record has its field number (2 in every signal) and its length before it.
    const head = this.#json ? Buffer.alloc(0) : Buffer.from([0x12, ...varint(bytes.length)]);
    this.bytes = Buffer.concat([head, bytes]);
    this.#marks = marks.map(({ slot, position }) => ({ slot, position: position + head.length }));
    this.#numbers = placesOf(this.bytes, NUMBER);
    this.#names = placesOf(this.bytes, NAME);
  }

  patch(frame: Buffer, at: number, request: number, record: number, seconds: number): void {
    const number = numberOf(request, record);
    for (const place of this.#numbers) writeDigits(frame, at + place, DIGITS, number);
    for (const place of this.#names) writeDigits(frame, at + place, NAME.length, record % SERIES);
    for (const { slot, position } of this.#marks) {
      if (slot.slot === 'trace') this.#writeTrace(frame, at + position, request, record);
      else if (slot.slot === 'span') this.#writeSpan(frame, at + position, number);
      else this.#writeTime(frame, at + position, seconds, record);
    }
  }

  #writeTrace(frame: Buffer, at: number, request: number, record: number): void {
    const group = Math.floor(record / TRACE_RECORDS);
    // The last 32 bits choose the shard: spread evenly.
    const last = Math.imul(request * 64 + group, 0x9e3779b1) >>> 0;
    this.#writeWord(frame, at, 0, 0xc4a05);
    this.#writeWord(frame, at, 1, request);
    this.#writeWord(frame, at, 2, group + 1);
    this.#writeWord(frame, at, 3, last);
  }

  #writeSpan(frame: Buffer, at: number, number: number): void {
    this.#writeWord(frame, at, 0, Math.floor(number / 2 ** 32));
    this.#writeWord(frame, at, 1, number >>> 0);
  }

  #writeWord(frame: Buffer, at: number, word: number, value: number): void {
    if (this.#json) frame.write(value.toString(16).padStart(8, '0'), at + word * 8, 'latin1');
    else frame.writeUInt32BE(value, at + word * 4);
  }

  #writeTime(frame: Buffer, at: number, seconds: number, record: number): void {
    if (this.#json) {
      writeDigits(frame, at, 10, seconds);
      writeDigits(frame, at + 10, 9, record);
    } else frame.writeBigUInt64LE(BigInt(seconds) * 1_000_000_000n + BigInt(record), at);
  }
}

function placesOf(bytes: Buffer, text: string): number[] {
  const places: number[] = [];
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) places.push(at);
  return places;
}

function writeDigits(frame: Buffer, at: number, count: number, value: number): void {
  let rest = value;
  for (let place = at + count - 1; place >= at; place--) {
    const tens = Math.floor(rest / 10);
    frame[place] = 48 + rest - tens * 10;
    rest = tens;
  }
}

const TIME = { slot: 'time', offsetNs: 0 } as const;
const TRACE = { slot: 'trace', index: 1 } as const;
const SPAN = { slot: 'span', index: 1 } as const;
const ATTRIBUTES = [attribute('chaos.number', NUMBER), attribute('chaos.kind', 'storm')];
const POINT = { attributes: ATTRIBUTES, startTimeUnixNano: TIME, timeUnixNano: TIME };
const METRIC = { name: `chaos.series.${NAME}`, unit: '1' };
const CUMULATIVE = 2;

const RECORDS: Readonly<Record<Signal, readonly (readonly [MessageName, Tree])[]>> = {
  traces: [
    [
      'Span',
      {
        traceId: TRACE,
        spanId: SPAN,
        name: `step ${NAME}`,
        kind: 2,
        startTimeUnixNano: TIME,
        endTimeUnixNano: TIME,
        attributes: ATTRIBUTES,
      },
    ],
  ],
  logs: [
    [
      'LogRecord',
      {
        timeUnixNano: TIME,
        severityNumber: 9,
        severityText: 'INFO',
        body: { stringValue: `number ${NUMBER}` },
        attributes: ATTRIBUTES,
        traceId: TRACE,
        spanId: SPAN,
        observedTimeUnixNano: TIME,
      },
    ],
  ],
  metrics: [
    ['Metric', { ...METRIC, gauge: { dataPoints: [{ ...POINT, asDouble: 1 }] } }],
    [
      'Metric',
      {
        ...METRIC,
        sum: {
          dataPoints: [{ ...POINT, asInt: 1n }],
          aggregationTemporality: CUMULATIVE,
          isMonotonic: true,
        },
      },
    ],
    [
      'Metric',
      {
        ...METRIC,
        histogram: {
          dataPoints: [{ ...POINT, count: 3n, sum: 4, bucketCounts: [1n, 2n], explicitBounds: [1] }],
          aggregationTemporality: CUMULATIVE,
        },
      },
    ],
  ],
};

function attribute(key: string, value: string): Tree {
  return { key, value: { stringValue: value } };
}

function templatesOf(format: Format): Readonly<Record<Signal, readonly RecordTemplate[]>> {
  const of = (signal: Signal) =>
    RECORDS[signal].map(([message, tree]) => new RecordTemplate(message, format, tree));
  return { traces: of('traces'), logs: of('logs'), metrics: of('metrics') };
}

const TEMPLATES = { protobuf: templatesOf('protobuf'), json: templatesOf('json') };

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return [...bytes, rest];
}

/** How a record of a table is recognised, in SQL. */
export interface RecordSql {
  readonly signal: Signal;
  readonly table: string;
  /** The record's number; 0 where it has none. */
  readonly number: string;
  /** Whether the record is as it was sent. */
  readonly whole: string;
}

const digits = (map: string) => `toUInt64OrZero(${map}['chaos.number'])`;

export const RECORD_SQL: readonly RecordSql[] = [
  {
    signal: 'traces',
    table: 'otel_traces',
    number: digits('SpanAttributes'),
    whole: 'reinterpretAsUInt64(reverse(unhex(SpanId))) = number AND Duration = 0',
  },
  {
    signal: 'logs',
    table: 'otel_logs',
    number: digits('LogAttributes'),
    whole: `Body = concat('number ', LogAttributes['chaos.number'])`,
  },
  ...POINT_TABLES.map((table, kind) => ({
    signal: 'metrics' as const,
    table,
    number: digits('Attributes'),
    whole:
      `toUnixTimestamp64Nano(TimeUnix) % 1000000000 = number % ${STRIDE} ` +
      `AND number % ${STRIDE} % ${POINT_TABLES.length} = ${kind}`,
  })),
];

export const requestSql = `intDiv(number, ${STRIDE})`;
