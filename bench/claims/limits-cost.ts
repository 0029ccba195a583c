/**
 * Claim: what limits and rules cost that nothing runs into: CPU of the gateway, the writer and Redis for a
 * million items, with none, with all limits set, and with ten rules, in turns on three installations of its
 * own. What is compared is one round's; the median of the rounds is told, and how far they differ.
 */
import type { Signal } from '../../src/model/signal.ts';
import { type Figure, type Measure, runClaim } from './claim.ts';
import { comparedFigures } from './parts/compared.ts';
import { median } from './parts/numbers.ts';
import { type Own, owning } from './parts/own.ts';

const REDIS_BYTES_MAX = 512 * 2 ** 20;

/** Of which the first is to get warm, and doesn't count. */
const ROUNDS = 6;
const LIMITS_PERCENT_MAX = 5;
const RULES_PERCENT_MAX = 20;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

const LIMITS = {
  SLUICE_LIMITS_ITEMS_PER_REQUEST_MAX: '1000000',
  SLUICE_LIMITS_ATTRIBUTES_MAX: '10000',
  SLUICE_LIMITS_VALUE_BYTES_MAX: '1000000',
  SLUICE_LIMITS_EVENTS_MAX: '10000',
  SLUICE_LIMITS_LINKS_MAX: '10000',
  SLUICE_TIME_PAST_MAX_HOURS: '87600',
  SLUICE_TIME_FUTURE_MAX_HOURS: '87600',
  SLUICE_LIMITS_SERIES_MAX: '1000000',
};
/** Of every kind, none of which meets anything; each is read for every record. */
const RULES = JSON.stringify([
  ...Array.from({ length: 3 }, (_, i) => ({
    name: `drop-${i}`, when: [{ field: 'name', equals: `no such name ${i}` }], action: 'drop',
  })),
  { name: 'drop-health', when: [{ field: 'attributes.url.path', startsWith: '/no-such-path' }], action: 'drop' },
  { name: 'drop-debug', when: [{ field: 'severity', below: 1 }], action: 'drop' },
  { name: 'drop-service', when: [{ field: 'resource.service.name', oneOf: ['nobody', 'noone'] }], action: 'drop' },
  {
    name: 'sample', signals: ['traces'], when: [{ field: 'name', matches: '^no-such-[a-z]+$' }], action: 'sample',
    percent: 10,
  },
  { name: 'keep', when: [{ field: 'attributes.no.such.key', exists: true }], action: 'keep' },
  { name: 'redact-keys', action: 'redact', keys: ['no.such.key'], replacement: '***' },
  {
    name: 'redact-card', when: [{ field: 'resource.service.name', equals: 'nobody' }], action: 'redact',
    pattern: '\\d{16}', replacement: '***',
  },
]);

const WAYS = [
  ['none', {}, undefined],
  ['all limits', LIMITS, LIMITS_PERCENT_MAX],
  ['ten rules', { SLUICE_RULES: RULES }, RULES_PERCENT_MAX],
] as const;

await runClaim({
  name: 'limits-cost',
  description: 'CPU for limits and rules that nothing runs into; starts everything itself.',
  body: (options, measure) =>
    owningAll(WAYS.map(([, settings]) => settings), async (owns) => {
      const figures: Figure[] = [];
      for (const signal of options.signals) {
        const rounds: number[][] = [];
        for (let round = 0; round < ROUNDS; round++) {
          const costs = WAYS.map(() => Number.NaN);
          // Each way is the first to be measured now and then.
          for (let turn = 0; turn < owns.length; turn++) {
            const i = (turn + round) % owns.length;
            const own = owns[i];
            if (own !== undefined) costs[i] = await costOf(own, signal, measure);
          }
          if (round > 0) rounds.push(costs);
        }
        figures.push(...figuresOf(signal, rounds));
      }
      return figures;
    }),
});

/** An installation with each of these settings, side by side. */
function owningAll<Result>(
  ways: readonly Readonly<Record<string, string>>[],
  body: (owns: readonly Own[]) => Promise<Result>,
  owns: readonly Own[] = [],
): Promise<Result> {
  const settings = ways[owns.length];
  if (settings === undefined) return body(owns);
  return owning({ redisBytesMax: REDIS_BYTES_MAX, settings }, (own) => owningAll(ways, body, [...owns, own]));
}

/** CPU seconds for each item. */
async function costOf(
  { gateway, writer, server, installation }: Own,
  signal: Signal,
  measure: Measure,
): Promise<number> {
  const { processes, acknowledged } = await measure({
    signals: [signal],
    protocol: 'http-protobuf',
    targets: [gateway.target],
    clickhouse: server.url,
    pids: [
      { role: 'gateway', pid: gateway.pid },
      { role: 'writer', pid: writer.pid },
      { role: 'redis', pid: installation.redisPid },
    ],
    freshnessMs: 0,
  });
  return processes.reduce((sum, one) => sum + one.cpuSeconds, 0) / acknowledged.items;
}

/** @param rounds of each the costs of the ways, in their order */
function figuresOf(signal: string, rounds: readonly (readonly number[])[]): Figure[] {
  return WAYS.flatMap(([way, , must], i): Figure[] => {
    const name = `${signal}, ${way}`;
    const cost = median(rounds.map((costs) => costs[i] ?? Number.NaN));
    const figure = { ...NONE, name, value: cost * 1e6, unit: 'CPU s per million items' };
    if (must === undefined) return [figure];
    const pairs = rounds.map((costs) => [costs[i] ?? Number.NaN, costs[0] ?? Number.NaN] as const);
    return [figure, ...comparedFigures(name, pairs, must)];
  });
}
