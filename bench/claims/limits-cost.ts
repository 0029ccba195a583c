/**
 * Claim: what limits and rules cost that nothing runs into: CPU of the gateway, the writer and Redis for a
 * million items, with none, with all limits set, and with ten rules, in turns on three installations of its
 * own. Take -d 10 or more.
 */
import { Installation } from '../installation.ts';
import { type Figure, type Measure, runClaim } from './claim.ts';

/** Of which the first is to get warm, and doesn't count. */
const ROUNDS = 4;
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
  body: async (options, measure) => {
    const installations: Installation[] = [];
    try {
      for (const [, settings] of WAYS) {
        const sizes = { redisBytesMax: 512 * 2 ** 20, clickhouses: 1, gateways: 1, writers: 1 };
        installations.push(await Installation.start({ ...sizes, settings }));
      }
      const figures: Figure[] = [];
      for (const signal of options.signals) {
        const sums = WAYS.map(() => ({ cpuSeconds: 0, items: 0 }));
        for (let round = 0; round < ROUNDS; round++) {
          for (const [i, installation] of installations.entries()) {
            const { cpuSeconds, items } = await costOf(installation, signal, measure);
            const sum = sums[i];
            if (round === 0 || sum === undefined) continue;
            sum.cpuSeconds += cpuSeconds;
            sum.items += items;
          }
        }
        figures.push(...figuresOf(signal, sums.map(({ cpuSeconds, items }) => (cpuSeconds / items) * 1e6)));
      }
      return figures;
    } finally {
      for (const installation of installations) await installation.stop();
    }
  },
});

async function costOf(
  { gateways, writers, clickhouses, redisPid }: Installation,
  signal: 'traces' | 'logs' | 'metrics',
  measure: Measure,
): Promise<{ cpuSeconds: number; items: number }> {
  const [gateway] = gateways;
  const [writer] = writers;
  if (gateway === undefined || writer === undefined) throw new Error('there is one of each');
  const { processes, acknowledged } = await measure({
    signals: [signal],
    protocol: 'http-protobuf',
    targets: [gateway.target],
    clickhouse: clickhouses[0]?.url,
    pids: [
      { role: 'gateway', pid: gateway.pid },
      { role: 'writer', pid: writer.pid },
      { role: 'redis', pid: redisPid },
    ],
    freshnessMs: 0,
  });
  return { cpuSeconds: processes.reduce((sum, one) => sum + one.cpuSeconds, 0), items: acknowledged.items };
}

function figuresOf(signal: string, costs: readonly number[]): Figure[] {
  const unit = 'CPU s per million items';
  const [plain = Number.NaN] = costs;
  return WAYS.flatMap(([name, , must], i) => {
    const value = costs[i] ?? Number.NaN;
    const figure: Figure = { ...NONE, name: `${signal}, ${name}`, value, unit };
    if (must === undefined) return [figure];
    return [figure, { ...NONE, name: `${signal}, ${name}`, value: (value / plain - 1) * 100, unit: '% more', must }];
  });
}
