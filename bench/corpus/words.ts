/**
 * What the corpus is made of: services, resources, and attributes like those that real instrumentations send.
 */
import type { Random } from './random.ts';
import type { Tree, Value } from './slot.ts';

export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly version: string;
  readonly language: string;
  readonly runtime: string;
}

export const SERVICES: readonly Service[] = [
  { name: 'frontend', namespace: 'shop', version: '3.14.2', language: 'nodejs', runtime: '22.11.0' },
  { name: 'checkout', namespace: 'shop', version: '2.8.0', language: 'go', runtime: 'go1.23.4' },
  { name: 'cart', namespace: 'shop', version: '1.42.7', language: 'dotnet', runtime: '8.0.11' },
  { name: 'payment', namespace: 'billing', version: '5.1.3', language: 'java', runtime: '21.0.5+11' },
  { name: 'invoice', namespace: 'billing', version: '0.19.4', language: 'java', runtime: '17.0.13+11' },
  { name: 'catalogue', namespace: 'shop', version: '7.0.1', language: 'python', runtime: '3.12.7' },
  { name: 'recommendation', namespace: 'ml', version: '2024.11.2', language: 'python', runtime: '3.11.10' },
  { name: 'shipping', namespace: 'logistics', version: '1.9.9', language: 'rust', runtime: '1.83.0' },
  { name: 'inventory', namespace: 'logistics', version: '4.4.0', language: 'go', runtime: 'go1.22.9' },
  { name: 'accounts', namespace: 'identity', version: '6.3.5', language: 'ruby', runtime: '3.3.6' },
  { name: 'sessions', namespace: 'identity', version: '1.0.28', language: 'erlang', runtime: '27.1.2' },
  { name: 'search', namespace: 'shop', version: '8.2.6', language: 'java', runtime: '21.0.5+11' },
];

export const SCOPES = [
  { name: '@opentelemetry/instrumentation-http', version: '0.57.1' },
  { name: 'go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp', version: '0.58.0' },
  { name: 'io.opentelemetry.grpc-1.6', version: '2.11.0-alpha' },
  { name: 'io.opentelemetry.jdbc', version: '2.11.0-alpha' },
  { name: 'opentelemetry.instrumentation.redis', version: '0.50b0' },
  { name: 'com.example.shop.business', version: '1.4.0' },
] as const;

export const ROUTES = [
  '/api/v1/products/{id}',
  '/api/v1/products/{id}/reviews',
  '/api/v1/cart/{id}/items',
  '/api/v1/orders/{id}',
  '/api/v1/customers/{id}/addresses',
  '/api/v2/search/{id}',
  '/internal/stock/{id}',
] as const;

export const USER_AGENTS = [
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Safari/604.1',
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0',
  'okhttp/4.12.0',
  'Go-http-client/2.0',
] as const;

export const STATEMENTS = [
  'SELECT id, name, price_cents, currency FROM products WHERE id = $1',
  'UPDATE stock SET reserved = reserved + $1 WHERE sku = $2 AND free >= $1',
  'INSERT INTO orders (customer_id, total_cents, state) VALUES ($1, $2, $3) RETURNING id',
  'SELECT * FROM sessions WHERE token = $1 AND expires_at > now()',
  'DELETE FROM cart_items WHERE cart_id = $1',
] as const;

export const EXCEPTIONS = [
  'java.net.SocketTimeoutException',
  'java.sql.SQLTransientConnectionException',
  'com.example.shop.StockExhaustedException',
  'java.lang.IllegalStateException',
] as const;

const PACKAGES = [
  'com.example.shop.checkout',
  'com.example.shop.stock',
  'io.netty.channel',
  'java.util.concurrent',
];
const CLASSES = [
  'OrderService',
  'StockClient',
  'PaymentGateway',
  'AbstractChannelHandlerContext',
  'FutureTask',
];
const METHODS = ['reserve', 'submitOrder', 'invokeChannelRead', 'call', 'run', 'authorise'];

/** An exception's name and message, and below it as many lines as asked for. */
export function stackTrace(random: Random, exception: string, message: string, lines: number): string {
  const frames = Array.from({ length: lines - 1 }, () => {
    const file = random.pick(CLASSES);
    const method = `${random.pick(PACKAGES)}.${file}.${random.pick(METHODS)}`;
    return `\tat ${method}(${file}.java:${random.int(20, 900)})`;
  });
  return [`${exception}: ${message}`, ...frames].join('\n');
}

export function attribute(key: string, value: Value): Tree {
  return { key, value: anyValue(value) };
}

/** Strings, booleans, integers (bigint), doubles (number) and lists of them as AnyValue. */
export function anyValue(value: Value): Tree {
  switch (typeof value) {
    case 'string':
      return { stringValue: value };
    case 'boolean':
      return { boolValue: value };
    case 'bigint':
      return { intValue: value };
    case 'number':
      return { doubleValue: value };
    default:
      return { arrayValue: { values: (value as readonly Value[]).map(anyValue) } };
  }
}

/**
 * One instance of a service: 17 attributes. `run` is the same for everything a run sends, to find or delete
 * it.
 */
export function resource(random: Random, service: Service, run: number): Tree {
  const set = random.hex(10);
  const pod = `${service.name}-${set}-${random.hex(5)}`;
  const attributes: [string, Value][] = [
    ['service.name', service.name],
    ['service.namespace', service.namespace],
    ['service.version', service.version],
    [
      'service.instance.id',
      `${random.hex(8)}-${random.hex(4)}-4${random.hex(3)}-a${random.hex(3)}-${random.hex(12)}`,
    ],
    ['telemetry.sdk.language', service.language],
    ['telemetry.sdk.name', 'opentelemetry'],
    ['telemetry.sdk.version', '1.29.0'],
    ['process.pid', BigInt(random.int(1, 40_000))],
    ['process.runtime.version', service.runtime],
    ['host.name', `ip-10-0-${random.int(0, 15)}-${random.int(0, 255)}.eu-central-1.compute.internal`],
    ['cloud.region', 'eu-central-1'],
    ['k8s.cluster.name', 'production-eu'],
    ['k8s.namespace.name', service.namespace],
    ['k8s.deployment.name', service.name],
    ['k8s.pod.name', pod],
    ['deployment.environment.name', 'production'],
    ['bench.run', runName(run)],
  ];
  return { attributes: attributes.map(([key, value]) => attribute(key, value)) };
}

/** How a run is called in its resources. */
export function runName(run: number): string {
  return run.toString(16).padStart(8, '0');
}

/** Cuts `count` items into `groups` groups of about the same size, none empty. */
export function split(random: Random, count: number, groups: number): number[] {
  const sizes = Array.from({ length: Math.min(groups, count) }, () => 1);
  for (let left = count - sizes.length; left > 0; left--) {
    const group = random.int(0, sizes.length - 1);
    sizes[group] = (sizes[group] ?? 0) + 1;
  }
  return sizes;
}
