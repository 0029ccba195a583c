/**
 * Requests with spans. Shares and sizes are those of the corpus that the published comparisons used: about
 * 536 B a span; 4 to 8 resources, 1 to 3 scopes each; traces of 1 to 24 spans; 9 to 12 attributes; 16 % of
 * the spans with 1 to 3 events, 2 % errors with an exception and its stack trace, 4 % with a link, 10 % with
 * a trace state.
 */
import type { Random } from './random.ts';
import type { Tree, Value } from './slot.ts';
import { attribute, EXCEPTIONS, resource, ROUTES, SCOPES, SERVICES, split } from './words.ts';
import { stackTrace, STATEMENTS, USER_AGENTS } from './words.ts';

const TRACE_SPANS_MAX = 24;
const KIND_SERVER = 2;
const KIND_CLIENT = 3;
const STATUS_ERROR = 2;

/**
 * @param spans how many spans the request has
 * @param spreadNs spans begin within so many ns of the window
 */
export function tracesRequest(random: Random, run: number, spans: number, spreadNs: number): Tree {
  const traces = new TraceCursor(random);
  let item = 0;
  const resourceSpans = split(random, spans, random.int(4, 8)).map((resourceItems) => {
    const scopes = split(random, resourceItems, random.int(1, 3));
    return {
      resource: resource(random, random.pick(SERVICES), run),
      scopeSpans: scopes.map((scopeItems) => ({
        scope: random.pick(SCOPES),
        spans: Array.from({ length: scopeItems }, () => span(random, ++item, traces, spreadNs)),
        schemaUrl: 'https://opentelemetry.io/schemas/1.28.0',
      })),
    };
  });
  return { resourceSpans };
}

/** Gives each span its trace and its parent, trace after trace. */
class TraceCursor {
  trace = 0;
  beginNs = 0;
  #left = 0;
  #root = 0;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The item that is the parent, or undefined for the first span of a trace. */
  next(item: number, spreadNs: number): number | undefined {
    if (this.#left === 0) {
      this.#left = this.#random.int(1, TRACE_SPANS_MAX);
      this.trace++;
      this.#root = item;
      this.beginNs = Math.floor(this.#random.next() * spreadNs);
    }
    this.#left--;
    return item === this.#root ? undefined : this.#random.int(this.#root, item - 1);
  }
}

function span(random: Random, item: number, traces: TraceCursor, spreadNs: number): Tree {
  const parent = traces.next(item, spreadNs);
  const startNs = traces.beginNs + random.int(0, 40_000_000);
  const durationNs = Math.floor(200_000 * Math.exp(random.next() * 6));
  const failed = random.chance(0.02);
  const { name, kind, attributes } = random.pick([httpServer, httpClient, rpc, database])(random, failed);
  const events = eventsOf(random, failed, startNs, durationNs);
  return {
    traceId: { slot: 'trace', index: traces.trace },
    spanId: { slot: 'span', index: item },
    traceState: random.chance(0.1) ? `rojo=${random.hex(16)},congo=t${random.int(1, 99)}` : undefined,
    parentSpanId: parent === undefined ? undefined : { slot: 'span', index: parent },
    name,
    kind,
    startTimeUnixNano: { slot: 'time', offsetNs: startNs },
    endTimeUnixNano: { slot: 'time', offsetNs: startNs + durationNs },
    attributes: attributes.map(([key, value]) => attribute(key, value)),
    events: events.length > 0 ? events : undefined,
    links: random.chance(0.04) ? [link(random)] : undefined,
    status: failed ? { message: 'upstream failed', code: STATUS_ERROR } : undefined,
    flags: 257,
  };
}

interface Operation {
  readonly name: string;
  readonly kind: number;
  readonly attributes: [string, Value][];
}

function httpServer(random: Random, failed: boolean): Operation {
  const method = random.pick(['GET', 'GET', 'GET', 'POST', 'PUT', 'DELETE']);
  const route = random.pick(ROUTES);
  return {
    name: `${method} ${route}`,
    kind: KIND_SERVER,
    attributes: [
      ['http.request.method', method],
      ['url.scheme', 'https'],
      ['url.path', route.replace('{id}', random.hex(16))],
      ['http.route', route],
      ['http.response.status_code', failed ? 500n : random.pick([200n, 200n, 200n, 201n, 304n, 404n])],
      ['http.response.body.size', BigInt(random.int(40, 60_000))],
      ['server.address', 'shop.example.com'],
      ['client.address', `203.0.113.${random.int(1, 254)}`],
      ['user_agent.original', random.pick(USER_AGENTS)],
      ...someOf(random, 3, [
        ['network.protocol.version', random.pick(['1.1', '2'])],
        ['app.cache.hit', random.chance(0.7)],
        ['app.render.ms', Math.round(random.next() * 4000) / 16],
      ]),
    ],
  };
}

function httpClient(random: Random, failed: boolean): Operation {
  const method = random.pick(['GET', 'GET', 'POST']);
  const peer = random.pick(SERVICES);
  const route = random.pick(ROUTES);
  const path = route.replace('{id}', random.hex(16));
  return {
    name: method,
    kind: KIND_CLIENT,
    attributes: [
      ['http.request.method', method],
      ['url.full', `http://${peer.name}.${peer.namespace}.svc.cluster.local:8080${path}`],
      ['server.address', `${peer.name}.${peer.namespace}.svc.cluster.local`],
      ['server.port', 8080n],
      ['http.response.status_code', failed ? 503n : random.pick([200n, 200n, 200n, 204n])],
      ['network.peer.address', `10.0.${random.int(0, 15)}.${random.int(0, 255)}`],
      ['network.protocol.version', '1.1'],
      ['http.request.resend_count', BigInt(random.pick([0, 0, 0, 1]))],
      ['thread.name', `http-worker-${random.int(1, 16)}`],
      ...someOf(random, 3, [
        ['app.pool.wait.ms', Math.round(random.next() * 1000) / 32],
        ['http.request.body.size', BigInt(random.int(0, 4000))],
        ['app.circuit.open', random.chance(0.02)],
      ]),
    ],
  };
}

function rpc(random: Random, failed: boolean): Operation {
  const peer = random.pick(SERVICES);
  const method = random.pick(['Get', 'List', 'Reserve', 'Charge', 'Ship']);
  const service = `${peer.namespace}.v1.${peer.name.charAt(0).toUpperCase()}${peer.name.slice(1)}Service`;
  return {
    name: `${service}/${method}`,
    kind: random.pick([KIND_SERVER, KIND_CLIENT]),
    attributes: [
      ['rpc.system', 'grpc'],
      ['rpc.service', service],
      ['rpc.method', method],
      ['rpc.grpc.status_code', failed ? 14n : 0n],
      ['server.address', `${peer.name}.${peer.namespace}.svc.cluster.local`],
      ['server.port', 50051n],
      ['network.peer.address', `10.0.${random.int(0, 15)}.${random.int(0, 255)}`],
      ['network.peer.port', BigInt(random.int(32_768, 60_999))],
      ['rpc.message.uncompressed_size', BigInt(random.int(20, 900_000))],
      ...someOf(random, 3, [
        ['rpc.request.metadata.id', random.hex(20)],
        ['app.deadline.left.ms', Math.round(random.next() * 8000) / 8],
        ['app.tenant', `tenant-${random.int(1, 400)}`],
      ]),
    ],
  };
}

function database(random: Random, failed: boolean): Operation {
  const statement = random.pick(STATEMENTS);
  const operation = statement.slice(0, statement.indexOf(' '));
  const collection = random.pick(['products', 'stock', 'orders', 'sessions', 'cart_items']);
  return {
    name: `${operation} ${collection}`,
    kind: KIND_CLIENT,
    attributes: [
      ['db.system.name', 'postgresql'],
      ['db.namespace', 'shop'],
      ['db.operation.name', operation],
      ['db.collection.name', collection],
      ['db.query.text', statement],
      ['db.response.returned_rows', BigInt(failed ? 0 : random.int(0, 500))],
      ['server.address', `pg-${random.int(0, 3)}.db.svc.cluster.local`],
      ['server.port', 5432n],
      ['db.query.parameter.1', random.hex(20)],
      ...someOf(random, 3, [
        ['db.client.connection.wait.ms', Math.round(random.next() * 640) / 64],
        ['app.prepared', random.chance(0.9)],
        ['thread.id', BigInt(random.int(1, 64))],
      ]),
    ],
  };
}

/** The first 0 to `max` of them. */
function someOf(random: Random, max: number, attributes: [string, Value][]): [string, Value][] {
  return attributes.slice(0, random.int(0, max));
}

function eventsOf(random: Random, failed: boolean, startNs: number, durationNs: number): Tree[] {
  const time = (): Value => ({ slot: 'time', offsetNs: startNs + Math.floor(random.next() * durationNs) });
  if (failed) {
    const type = random.pick(EXCEPTIONS);
    const message = `timed out after ${random.int(100, 9000)} ms`;
    const attributes: [string, Value][] = [
      ['exception.type', type],
      ['exception.message', message],
      ['exception.stacktrace', stackTrace(random, type, message, 12)],
    ];
    return [
      { timeUnixNano: time(), name: 'exception', attributes: attributes.map(([k, v]) => attribute(k, v)) },
    ];
  }
  // Together with the errors, whose exception is an event too: 16 %.
  if (!random.chance(0.143)) return [];
  return Array.from({ length: random.int(1, 3) }, () => ({
    timeUnixNano: time(),
    name: random.pick(['cache.miss', 'message', 'retry.scheduled']),
    attributes: [
      attribute('app.key', `item:${random.int(1, 90_000)}`),
      attribute('app.try', BigInt(random.int(1, 5))),
    ],
  }));
}

function link(random: Random): Tree {
  return {
    traceId: Buffer.from(random.hex(32), 'hex'),
    spanId: Buffer.from(random.hex(16), 'hex'),
    attributes: [attribute('link.reason', random.pick(['batch', 'retry', 'follows_from']))],
  };
}
