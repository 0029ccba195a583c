/**
 * Requests with log records: about 484 B a record; 3 to 6 resources; mixed severities; 5 to 9 attributes;
 * bodies of 60 to 900 B, 5 % a map with an event name, 10 % stack traces; 12 % with an array attribute; all
 * with trace and span.
 */
import type { Random } from './random.ts';
import type { Tree, Value } from './slot.ts';
import {
  anyValue,
  attribute,
  EXCEPTIONS,
  resource,
  ROUTES,
  SCOPES,
  SERVICES,
  split,
  stackTrace,
} from './words.ts';

/** Severity number, text, and how many of 100. */
const SEVERITIES = [
  [5, 'DEBUG', 22],
  [9, 'INFO', 58],
  [13, 'WARN', 12],
  [17, 'ERROR', 7],
  [21, 'FATAL', 1],
] as const;

const RECORDS_PER_TRACE = 6;
const BODY_LENGTH_MAX = 900;

/**
 * @param records how many records the request has
 * @param spreadNs records' times lie within so many ns of the window
 */
export function logsRequest(random: Random, run: number, records: number, spreadNs: number): Tree {
  let item = 0;
  const resourceLogs = split(random, records, random.int(3, 6)).map((resourceItems) => ({
    resource: resource(random, random.pick(SERVICES), run),
    scopeLogs: split(random, resourceItems, random.int(1, 3)).map((scopeItems) => ({
      scope: random.pick(SCOPES),
      logRecords: Array.from({ length: scopeItems }, () => record(random, ++item, spreadNs)),
      schemaUrl: 'https://opentelemetry.io/schemas/1.28.0',
    })),
  }));
  return { resourceLogs };
}

function record(random: Random, item: number, spreadNs: number): Tree {
  const offsetNs = Math.floor(random.next() * spreadNs);
  const [severityNumber, severityText] = severity(random);
  const kind = random.next();
  const isMap = kind < 0.05;
  return {
    timeUnixNano: { slot: 'time', offsetNs },
    severityNumber,
    severityText,
    body: isMap ? mapBody(random) : { stringValue: kind < 0.15 ? traceBody(random) : textBody(random) },
    attributes: attributesOf(random).map(([key, value]) => attribute(key, value)),
    flags: 1,
    traceId: { slot: 'trace', index: Math.ceil(item / RECORDS_PER_TRACE) },
    spanId: { slot: 'span', index: item },
    observedTimeUnixNano: { slot: 'time', offsetNs: offsetNs + random.int(1_000, 90_000_000) },
    eventName: isMap ? random.pick(['order.placed', 'order.cancelled', 'session.started']) : undefined,
  };
}

function severity(random: Random): readonly [number, string] {
  let left = random.int(1, 100);
  for (const [number, text, share] of SEVERITIES) {
    left -= share;
    if (left <= 0) return [number, text];
  }
  return [9, 'INFO'];
}

function mapBody(random: Random): Tree {
  const values: [string, Value][] = [
    ['order', `ord-${random.int(1, 900_000)}`],
    ['total.cents', BigInt(random.int(100, 90_000))],
    ['express', random.chance(0.3)],
  ];
  return { kvlistValue: { values: values.map(([key, value]) => ({ key, value: anyValue(value) })) } };
}

function traceBody(random: Random): string {
  const message = `worker ${random.int(1, 64)} gave up after ${random.int(100, 9000)} ms`;
  return stackTrace(random, random.pick(EXCEPTIONS), message, random.int(5, 11)).slice(0, BODY_LENGTH_MAX);
}

const PHRASES = [
  'retrying with the next endpoint because the previous one did not answer in time',
  'the cached value was used since the upstream has not changed',
  'waiting for the lock of the shard took longer than expected',
  'configuration reloaded, listeners keep their connections',
] as const;

function textBody(random: Random): string {
  const path = random.pick(ROUTES).replace('{id}', String(random.int(1, 90_000)));
  const method = random.pick(['GET', 'POST', 'PUT']);
  let text = `${method} ${path} took ${random.int(1, 4000)} ms, user u-${random.int(1, 50_000)}`;
  text += `, request ${random.hex(32)}`;
  while (random.chance(0.28) && text.length < 800) text += `; ${random.pick(PHRASES)}`;
  return text;
}

function attributesOf(random: Random): [string, Value][] {
  const thread = random.int(1, 64);
  const all: [string, Value][] = [
    [
      'code.file.path',
      `src/${random.pick(['orders', 'stock', 'http', 'pool'])}/${random.pick(['service', 'client'])}.ts`,
    ],
    ['code.line.number', BigInt(random.int(10, 900))],
    ['thread.name', `worker-${thread}`],
    ['logger.name', `com.example.shop.${random.pick(['OrderService', 'StockClient', 'PaymentGateway'])}`],
    ['http.response.status_code', random.pick([200n, 200n, 404n, 500n])],
    ['app.session', random.hex(26)],
    ['app.elapsed.ms', Math.round(random.next() * 16_000) / 16],
    ['app.sampled', random.chance(0.5)],
    ['client.address', `203.0.113.${random.int(1, 254)}`],
  ];
  const chosen = all.slice(0, random.int(5, all.length));
  if (random.chance(0.12))
    chosen[chosen.length - 1] = ['app.tags', ['blue', 'canary', `zone-${random.int(1, 3)}`]];
  return chosen;
}
