/**
 * Requests with data points: about 263 B a point; of the metrics 35 % gauges, 35 % sums, 18 % histograms of
 * 14 bounds (a quarter with an exemplar), 7 % exponential histograms of 20 to 79 buckets, 5 % summaries; 1 to
 * 12 points a metric, 5 attributes a point.
 */
import type { Random } from './random.ts';
import type { Tree, Value } from './slot.ts';
import { attribute, resource, ROUTES, SCOPES, SERVICES, split } from './words.ts';

const METRIC_POINTS_MAX = 12;
const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const CUMULATIVE = 2;

const SUBJECTS = [
  'http.server.request',
  'http.client.request',
  'db.client.operation',
  'rpc.server.call',
] as const;
const PARTS = ['pool', 'queue', 'cache', 'heap', 'socket', 'batch'] as const;

/** @param startNs the start time of every point, by which the run is recognised (../identity.ts) */
export function metricsRequest(random: Random, run: number, points: number, startNs: bigint): Tree {
  let item = 0;
  const next = (): Tree => ({
    startTimeUnixNano: startNs,
    timeUnixNano: { slot: 'point', index: ++item },
    attributes: attributesOf(random),
  });
  const resourceMetrics = split(random, points, random.int(4, 8)).map((resourceItems) => ({
    resource: resource(random, random.pick(SERVICES), run),
    scopeMetrics: split(random, resourceItems, random.int(1, 3)).map((scopeItems) => ({
      scope: random.pick(SCOPES),
      metrics: metricsOf(random, scopeItems, next),
      schemaUrl: 'https://opentelemetry.io/schemas/1.28.0',
    })),
  }));
  return { resourceMetrics };
}

function metricsOf(random: Random, points: number, next: () => Tree): Tree[] {
  const metrics: Tree[] = [];
  for (let left = points; left > 0; ) {
    const count = Math.min(left, random.int(1, METRIC_POINTS_MAX));
    left -= count;
    metrics.push(metric(random, Array.from({ length: count }, next)));
  }
  return metrics;
}

function metric(random: Random, points: readonly Tree[]): Tree {
  const kind = random.next();
  const subject = `${random.pick(SUBJECTS)}.${random.pick(PARTS)}`;
  const described = (name: string, unit: string): Tree => ({
    name: `${subject}.${name}`,
    description: `The ${name} of ${subject}`,
    unit,
  });
  if (kind < 0.35) {
    return {
      ...described('usage', '1'),
      gauge: { dataPoints: points.map((point) => number(random, point)) },
    };
  }
  if (kind < 0.7) {
    const dataPoints = points.map((point) => number(random, point));
    const sum = { dataPoints, aggregationTemporality: CUMULATIVE, isMonotonic: random.chance(0.8) };
    return { ...described('count', '{operation}'), sum };
  }
  if (kind < 0.88) {
    const dataPoints = points.map((point) => histogram(random, point));
    return { ...described('duration', 's'), histogram: { dataPoints, aggregationTemporality: CUMULATIVE } };
  }
  if (kind < 0.95) {
    const dataPoints = points.map((point) => exponential(random, point));
    return {
      ...described('size', 'By'),
      exponentialHistogram: { dataPoints, aggregationTemporality: CUMULATIVE },
    };
  }
  return {
    ...described('latency', 'ms'),
    summary: { dataPoints: points.map((point) => summary(random, point)) },
  };
}

function attributesOf(random: Random): Tree[] {
  const attributes: [string, Value][] = [
    ['http.request.method', random.pick(['GET', 'POST', 'PUT', 'DELETE'])],
    ['http.route', random.pick(ROUTES)],
    ['http.response.status_code', random.pick([200n, 201n, 404n, 500n])],
    ['app.shard', `shard-${random.int(1, 48)}`],
    ['app.canary', random.chance(0.1)],
  ];
  return attributes.map(([key, value]) => attribute(key, value));
}

function number(random: Random, point: Tree): Tree {
  if (random.chance(0.5)) return { ...point, asInt: BigInt(random.int(0, 9_000_000)) };
  return { ...point, asDouble: Math.round(random.next() * 1e6) / 128 };
}

function histogram(random: Random, point: Tree): Tree {
  const bucketCounts = Array.from({ length: BOUNDS.length + 1 }, () => BigInt(random.int(0, 900)));
  const exemplar = {
    timeUnixNano: point.timeUnixNano,
    asDouble: Math.round(random.next() * 4096) / 1024,
    spanId: Buffer.from(random.hex(16), 'hex'),
    traceId: Buffer.from(random.hex(32), 'hex'),
    filteredAttributes: [attribute('app.tenant', `tenant-${random.int(1, 400)}`)],
  };
  return {
    ...point,
    count: total(bucketCounts),
    sum: Math.round(random.next() * 1e6) / 64,
    bucketCounts,
    explicitBounds: BOUNDS,
    exemplars: random.chance(0.25) ? [exemplar] : undefined,
    min: 0.0009765625,
    max: Math.round(random.next() * 12_800) / 1024,
  };
}

function exponential(random: Random, point: Tree): Tree {
  const bucketCounts = Array.from({ length: random.int(20, 79) }, () => BigInt(random.int(0, 300)));
  const zeroCount = BigInt(random.int(0, 5));
  return {
    ...point,
    count: total(bucketCounts) + zeroCount,
    sum: Math.round(random.next() * 1e6),
    scale: random.int(2, 6),
    zeroCount,
    positive: { offset: random.int(-20, 20), bucketCounts },
    min: 1,
    max: random.int(1000, 90_000),
  };
}

function summary(random: Random, point: Tree): Tree {
  const median = 1 + random.next() * 20;
  return {
    ...point,
    count: BigInt(random.int(1, 90_000)),
    sum: Math.round(random.next() * 1e6),
    quantileValues: [0.5, 0.9, 0.99].map((quantile) => ({ quantile, value: median * (1 + quantile * 4) })),
  };
}

function total(counts: readonly bigint[]): bigint {
  return counts.reduce((sum, count) => sum + count, 0n);
}
