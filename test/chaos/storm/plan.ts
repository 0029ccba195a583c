/**
 * Which faults come when: all drawn from the seed before anything is started, so that the same seed, length
 * and number of faults give the same list. They come in bursts and overlap; between two bursts everything is
 * whole for a while, so that what is promised for calm weather can come about as well.
 */
import { type Random, seededRandom } from '../../oracle/random.ts';
import type { Direction } from './proxy.ts';

export const GATEWAYS = 3;
export const WRITERS = 2;
export const SHARDS = 2;

/** Tables that can be made to refuse inserts; the second one is filled by a view. */
const TABLES = [
  'otel_traces',
  'otel_traces_trace_id_ts',
  'otel_logs',
  'otel_metrics_gauge',
  'otel_metrics_sum',
  'otel_metrics_histogram',
].map((name) => `${name}_local`);

/** What is done; `target` names a process or a link, see targetsOf. */
export type Deed =
  | { readonly kind: 'kill' | 'freeze' | 'drain'; readonly target: string }
  | { readonly kind: 'clock jump'; readonly target: string; readonly shiftMs: number }
  | { readonly kind: 'cut'; readonly target: string }
  /** Half-open; what was held is passed on at the end, or lost with its connection. */
  | { readonly kind: 'halt'; readonly target: string; readonly forgets: boolean }
  | { readonly kind: 'cut requests' | 'cut answers'; readonly target: string; readonly bytes: number }
  | { readonly kind: 'slow'; readonly target: string; readonly delayMs: number }
  /** Redis may use so many bytes more (or less) than it does now. */
  | { readonly kind: 'memory full'; readonly target: 'redis'; readonly roomBytes: number }
  | { readonly kind: 'scripts flushed' | 'clients cut'; readonly target: 'redis' }
  | { readonly kind: 'disk full' | 'too many parts'; readonly target: string; readonly table: string };

export type Kind = Deed['kind'];

/** `at` and `durationMs` count from the start of the load; nothing that lasts reaches into the next calm. */
export type PlannedFault = Deed & {
  readonly number: number;
  readonly atMs: number;
  readonly durationMs: number;
  /** Which server of several, for Redis. */
  readonly nth: number;
};

export interface PlanOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly faults: number;
  /** Whether there are links to Redis that can be broken. */
  readonly redisLinks: boolean;
}

/** A burst and the calm after it. */
const BURST_MS = 16_000;
const CALM_MS = 4_000;
/** A process that was killed or drained needs so long until it works again. */
const RETURN_MS = 1_500;
const DRAWS_MAX = 40;
const HOUR_MS = 3_600_000;

/** How often, out of the sum of all; and how long it lasts at most. */
const KINDS: readonly (readonly [Kind, string, number, number])[] = [
  ['kill', 'gateway', 9, 2_500],
  ['kill', 'writer', 8, 2_500],
  ['kill', 'redis', 4, 1_500],
  ['kill', 'clickhouse', 4, 4_000],
  ['drain', 'gateway', 4, 1_000],
  ['drain', 'writer', 4, 1_000],
  ['freeze', 'gateway', 5, 6_000],
  ['freeze', 'writer', 5, 6_000],
  ['freeze', 'redis', 4, 3_500],
  ['freeze', 'clickhouse', 4, 7_000],
  ['clock jump', 'gateway', 2, 0],
  ['clock jump', 'writer', 3, 0],
  ['cut', 'link', 12, 0],
  ['cut answers', 'link', 10, 2_000],
  ['cut requests', 'link', 8, 2_000],
  ['slow', 'link', 5, 4_000],
  ['halt', 'link', 8, 6_000],
  ['memory full', 'redis', 4, 2_500],
  ['scripts flushed', 'redis', 3, 0],
  ['clients cut', 'redis', 4, 0],
  ['disk full', 'clickhouse', 3, 6_000],
  ['too many parts', 'clickhouse', 3, 6_000],
];

const named = (name: string, count: number) => Array.from({ length: count }, (_, n) => `${name}-${n}`);

/** Everything that faults are done to: processes by their names, links as `from>to`. */
export function targetsOf(redisLinks: boolean): Readonly<Record<string, readonly string[]>> {
  const gateways = named('gateway', GATEWAYS);
  const writers = named('writer', WRITERS);
  const clickhouse = named('clickhouse', SHARDS);
  const fromClients = gateways.flatMap((gateway) => [`http>${gateway}`, `grpc>${gateway}`]);
  const toRedis = redisLinks ? [...gateways, ...writers].map((role) => `${role}>redis`) : [];
  const toClickHouse = writers.flatMap((writer) => clickhouse.map((server) => `${writer}>${server}`));
  // As many draws for each kind of link.
  const link = [...fromClients, ...toRedis, ...toRedis, ...toClickHouse];
  return { gateway: gateways, writer: writers, redis: ['redis'], clickhouse, link };
}

export function drawPlan(options: PlanOptions): PlannedFault[] {
  const random = seededRandom(options.seed);
  const targets = targetsOf(options.redisLinks);
  const busyUntil = new Map<string, number>();
  return drawTimes(random, options).map((atMs, index) => {
    const calmAt = Math.floor(atMs / (BURST_MS + CALM_MS)) * (BURST_MS + CALM_MS) + BURST_MS;
    for (let draw = 1; ; draw++) {
      const [kind, of, , longestMs] = drawKind(random);
      const target = random.pick(targets[of] ?? []);
      const busy = (busyUntil.get(target) ?? 0) > atMs;
      if (busy && draw < DRAWS_MAX) continue;
      const lasts = Math.min(lengthOf(random, longestMs), Math.max(0, calmAt - atMs));
      const returns = kind === 'kill' || kind === 'drain' ? RETURN_MS : 0;
      busyUntil.set(target, atMs + lasts + returns);
      const nth = random.int(16);
      return { ...deedOf(random, kind, target), number: index + 1, atMs, durationMs: lasts, nth };
    }
  });
}

/** Sorted; none in a calm. */
function drawTimes(random: Random, { seconds, faults }: PlanOptions): number[] {
  const times: number[] = [];
  while (times.length < faults) {
    const at = random.int(Math.max(1, seconds * 1000));
    if (at % (BURST_MS + CALM_MS) < BURST_MS) times.push(at);
  }
  return times.sort((one, other) => one - other);
}

function drawKind(random: Random): (typeof KINDS)[number] {
  const all = KINDS.reduce((sum, [, , share]) => sum + share, 0);
  let left = random.int(all);
  for (const row of KINDS) {
    left -= row[2];
    if (left < 0) return row;
  }
  throw new Error('the shares add up');
}

/** A third of them is over before anybody's timeout; the others have any length. */
function lengthOf(random: Random, longestMs: number): number {
  if (longestMs === 0) return 0;
  const most = random.chance(1 / 3) ? longestMs / 8 : longestMs;
  return 50 + random.int(Math.round(most));
}

function deedOf(random: Random, kind: Kind, target: string): Deed {
  switch (kind) {
    case 'kill':
    case 'freeze':
    case 'drain':
    case 'cut':
      return { kind, target };
    case 'clock jump': {
      const hours = random.pick([0, 1, -1, 5, -5, 30, -30]);
      return { kind, target, shiftMs: hours * HOUR_MS + random.int(60_000) };
    }
    case 'halt':
      return { kind, target, forgets: random.chance(0.5) };
    case 'cut requests':
    case 'cut answers': {
      const bytes = sizeOf(random, kind === 'cut requests' ? 200_000 : 2_000);
      return { kind, target, bytes };
    }
    case 'slow':
      return { kind, target, delayMs: 5 + random.int(200) };
    case 'memory full':
      return { kind, target: 'redis', roomBytes: random.int(600_000) - 200_000 };
    case 'scripts flushed':
    case 'clients cut':
      return { kind, target: 'redis' };
    case 'disk full':
    case 'too many parts':
      return { kind, target, table: random.pick(TABLES) };
  }
}

/** From 1 byte on; small ones, which end within a head, as often as large ones. */
function sizeOf(random: Random, max: number): number {
  return 1 + Math.floor(max ** (random.int(1_000) / 1_000));
}

export function directionOf(kind: 'cut requests' | 'cut answers'): Direction {
  return kind === 'cut requests' ? 'requests' : 'answers';
}

/** For the log and the report. */
export function describeFault(fault: PlannedFault): string {
  const { kind, target } = fault;
  const figures: string[] = [];
  if ('shiftMs' in fault) figures.push(`to ${(fault.shiftMs / HOUR_MS).toFixed(2)} h`);
  if ('bytes' in fault) figures.push(`after ${fault.bytes} bytes`);
  if ('delayMs' in fault) figures.push(`${fault.delayMs} ms a chunk`);
  if ('roomBytes' in fault) figures.push(`${fault.roomBytes} bytes of room`);
  if ('table' in fault) figures.push(fault.table);
  if (fault.kind === 'halt' && fault.forgets) figures.push('and cut at its end');
  if (fault.durationMs > 0) figures.push(`for ${fault.durationMs} ms`);
  return [kind, target, ...figures].join(' ');
}
