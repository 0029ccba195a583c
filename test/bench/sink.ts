/**
 * A small OTLP server for testing the load generator: decodes with the tests' own decoder, writes the ids and
 * times to ClickHouse, and does wrong on purpose where a test wants it to.
 */
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { REQUESTS } from '../../proto/fields.ts';
import { type Signal, SIGNALS } from '../../src/model/signal.ts';
import { decode, type Message } from '../oracle/decode.ts';
import type { TestClickHouse } from '../support/services.ts';

/** One span, record or point, as far as the accounting looks at it. */
export interface SinkItem {
  readonly table: string;
  readonly row: Readonly<Record<string, string>>;
}

/** What the sink does with the n-th request it sees (from 1); what is left out is done right. */
export interface Misdeed {
  /** Answers with this HTTP or gRPC status, and keeps nothing. */
  readonly refuse?: { readonly http: number; readonly grpc: number };
  /** Leaves out the first so many items, and acknowledges all. */
  readonly lose?: number;
  /** Writes the first so many items twice. */
  readonly double?: number;
  /** Keeps everything and closes the connection without an answer. */
  readonly hangUp?: boolean;
  /** Says so many items were rejected, and leaves them out. */
  readonly reject?: number;
}

export interface Sink {
  readonly httpPort: number;
  readonly grpcPort: number;
  /** Every item acknowledged or not, in order. */
  readonly items: SinkItem[];
  /** The bodies as they came, decompressed, with their signals. */
  readonly bodies: { readonly signal: Signal; readonly body: Buffer }[];
  stop(): Promise<void>;
}

/** The tables with the columns that the accounting reads, in database `otel`. */
export async function createSinkTables(clickhouse: TestClickHouse): Promise<void> {
  await clickhouse.query('CREATE DATABASE IF NOT EXISTS otel');
  const ids = 'ServiceName String, TraceId String, SpanId String, Timestamp DateTime64(9)';
  const points = 'ServiceName String, StartTimeUnix DateTime64(9), TimeUnix DateTime64(9)';
  const create = (table: string, columns: string) =>
    clickhouse.query(`CREATE TABLE otel.${table} (${columns}) ENGINE MergeTree ORDER BY ServiceName`);
  await create('otel_traces', ids);
  await create('otel_logs', ids);
  for (const kind of ['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary']) {
    await create(`otel_metrics_${kind}`, points);
  }
}

/** @param clickhouse where items go; without it they are only collected */
export async function startSink(
  misdeedOf: (request: number) => Misdeed = () => ({}),
  clickhouse?: TestClickHouse,
): Promise<Sink> {
  const items: SinkItem[] = [];
  const bodies: Sink['bodies'] = [];
  let requests = 0;

  const take = async (signal: Signal, body: Buffer, json: boolean): Promise<Misdeed> => {
    const misdeed = misdeedOf(++requests);
    bodies.push({ signal, body });
    if (misdeed.refuse !== undefined) return misdeed;
    const all = itemsOf(signal, json ? messageOfJson(body) : decode(REQUESTS[signal], body));
    const kept = all.slice((misdeed.lose ?? 0) + (misdeed.reject ?? 0));
    kept.push(...kept.slice(0, misdeed.double ?? 0));
    items.push(...kept);
    if (clickhouse !== undefined) await insert(clickhouse, kept);
    return misdeed;
  };

  const http = createHttp((request, response) => void answerHttp(request, response, take));
  const http2 = createHttp2();
  http2.on(
    'stream',
    (stream, headers) => void answerGrpc(stream, String(headers[':path']), headers['grpc-encoding'], take),
  );
  const listen = (server: typeof http | typeof http2) =>
    new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  const [httpPort, grpcPort] = [await listen(http), await listen(http2)];
  return {
    httpPort,
    grpcPort,
    items,
    bodies,
    async stop() {
      http.closeAllConnections();
      await Promise.all([http, http2].map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

type Take = (signal: Signal, body: Buffer, json: boolean) => Promise<Misdeed>;

async function answerHttp(request: IncomingMessage, response: ServerResponse, take: Take): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const signal = SIGNALS.find((one) => request.url === `/v1/${one}`);
  if (signal === undefined) return void response.writeHead(404).end();
  const json = request.headers['content-type'] === 'application/json';
  const misdeed = await take(
    signal,
    inflated(Buffer.concat(chunks), request.headers['content-encoding']),
    json,
  );
  if (misdeed.hangUp) return void request.socket.destroy();
  if (misdeed.refuse !== undefined) return void response.writeHead(misdeed.refuse.http).end();
  response.writeHead(200).end(json ? jsonAnswer(misdeed) : protobufAnswer(misdeed));
}

async function answerGrpc(
  stream: ServerHttp2Stream,
  path: string,
  encoding: unknown,
  take: Take,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  const signal = SIGNALS.find((one) => path.toLowerCase().includes(one.replace(/s$/, '')));
  if (signal === undefined) return stream.close();
  const frame = Buffer.concat(chunks);
  const length = frame.readUInt32BE(1);
  const body = frame.subarray(5, 5 + length);
  const misdeed = await take(signal, inflated(body, frame[0] === 1 ? String(encoding) : undefined), false);
  if (misdeed.hangUp) return stream.session?.destroy();
  const head = { ':status': 200, 'content-type': 'application/grpc' };
  if (misdeed.refuse !== undefined) {
    return stream.respond({ ...head, 'grpc-status': String(misdeed.refuse.grpc) }, { endStream: true });
  }
  const answer = protobufAnswer(misdeed);
  stream.respond(head, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, answer.length]), answer]));
}

function inflated(body: Buffer, encoding: string | undefined): Buffer {
  if (encoding === 'gzip') return gunzipSync(body);
  return encoding === 'zstd' ? zstdDecompressSync(body) : body;
}

/** Export…Response with partial_success { rejected }, by hand: fields 1 and 1. */
function protobufAnswer({ reject }: Misdeed): Buffer {
  return reject === undefined ? Buffer.alloc(0) : Buffer.from([0x0a, 0x02, 0x08, reject]);
}

function jsonAnswer({ reject }: Misdeed): string {
  return reject === undefined ? '{}' : JSON.stringify({ partialSuccess: { rejectedSpans: String(reject) } });
}

/** OTLP/JSON in the shape that the protobuf decoder gives, as far as itemsOf looks. */
function messageOfJson(body: Buffer): Message {
  return JSON.parse(body.toString(), (name, value: unknown) => {
    if (typeof value !== 'string') return value;
    if (/^(traceId|spanId|parentSpanId)$/.test(name)) return Buffer.from(value, 'hex').toString('latin1');
    return name.endsWith('TimeUnixNano') || name === 'timeUnixNano' ? BigInt(value) : value;
  }) as Message;
}

const DATA: Readonly<Record<string, string>> = {
  gauge: 'gauge',
  sum: 'sum',
  histogram: 'histogram',
  exponentialHistogram: 'exponential_histogram',
  summary: 'summary',
};

const listOf = (message: Message, name: string): Message[] => (message[name] ?? []) as unknown as Message[];

/** Every item of a request, with its service, ids and times. */
export function itemsOf(signal: Signal, request: Message): SinkItem[] {
  const name = { traces: 'Spans', logs: 'Logs', metrics: 'Metrics' }[signal];
  const records = { traces: 'spans', logs: 'logRecords', metrics: 'metrics' }[signal];
  return listOf(request, `resource${name}`).flatMap((resource) => {
    const attributes = listOf(resource.resource as Message, 'attributes');
    const service = attributes.find(({ key }) => key === 'service.name')?.value as Message;
    const found = listOf(resource, `scope${name}`).flatMap((scope) => listOf(scope, records));
    const rows = found.flatMap((record) =>
      signal === 'metrics' ? pointsOf(record) : [recordOf(signal, record)],
    );
    return rows.map(({ table, row }) => ({
      table,
      row: { ...row, ServiceName: String(service.stringValue) },
    }));
  });
}

function recordOf(signal: Signal, record: Message): SinkItem {
  const hex = (value: unknown): string => Buffer.from(String(value), 'latin1').toString('hex');
  const time = signal === 'traces' ? record.startTimeUnixNano : record.timeUnixNano;
  const ids = { TraceId: hex(record.traceId), SpanId: hex(record.spanId) };
  return {
    table: signal === 'traces' ? 'otel_traces' : 'otel_logs',
    row: { ...ids, Timestamp: String(time) },
  };
}

function pointsOf(metric: Message): SinkItem[] {
  const kind = Object.keys(DATA).find((name) => metric[name] !== undefined) ?? '';
  return listOf(metric[kind] as Message, 'dataPoints').map((point) => ({
    table: `otel_metrics_${DATA[kind]}`,
    row: { StartTimeUnix: String(point.startTimeUnixNano), TimeUnix: String(point.timeUnixNano) },
  }));
}

async function insert(clickhouse: TestClickHouse, items: readonly SinkItem[]): Promise<void> {
  const byTable = Map.groupBy(items, ({ table }) => table);
  for (const [table, found] of byTable) {
    const lines = found.map(({ row }) => {
      // ClickHouse reads a bare whole number as ticks of the column, here ns.
      const cells = Object.entries(row).map(
        ([name, cell]) => `"${name}":${/Time/.test(name) ? cell : JSON.stringify(cell)}`,
      );
      return `{${cells.join(',')}}`;
    });
    await clickhouse.query(
      `INSERT INTO otel.${table} FORMAT JSONEachRow`,
      { async_insert: '0' },
      lines.join('\n'),
    );
  }
}
