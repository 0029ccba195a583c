/**
 * Claim: how long a client waits, and how long until an item can be read: at half the rate that must be
 * sustained, at half the rate that is aimed for, and for a single small request when there is nothing else to
 * do.
 */
import { type Figure, runClaim } from './claim.ts';

const MUST_RATE = 50_000;
const AIM_RATE = 100_000;
const ACKNOWLEDGED_MS = { must: 100, aim: 25 };
const READABLE_MS = { must: 3000, aim: 1500 };
const IDLE_RATE = 20;
const IDLE_P50_MS = 5;

await runClaim({
  name: 'latency',
  description: 'Acknowledgement and freshness at fixed rates; --rate replaces both of them.',
  body: async (options, measure) => {
    const figures: Figure[] = [];
    const rates = options.rate === undefined ? [MUST_RATE, AIM_RATE] : [options.rate];
    for (const rate of rates) {
      const report = await measure({ signals: ['traces'], rate });
      const at = `p99 at ${rate.toLocaleString('en-US')} spans/s`;
      // The must is bound to its own rate; beyond it only the aim is judged.
      const judged = <B extends { must: number; aim: number }>(bounds: B) =>
        rate <= MUST_RATE ? bounds : { must: undefined, aim: bounds.aim };
      const common = { unit: 'ms', better: 'less' } as const;
      figures.push({
        name: `acknowledged, ${at}`,
        value: report.latencyMs.p99,
        ...common,
        ...judged(ACKNOWLEDGED_MS),
      });
      const readable = report.freshnessMs?.p99 ?? Number.NaN;
      figures.push({ name: `readable, ${at}`, value: readable, ...common, ...judged(READABLE_MS) });
    }
    const idle = await measure({ signals: ['traces'], rate: IDLE_RATE, requestItems: 1, freshnessMs: 0 });
    const value = idle.latencyMs.p50;
    figures.push({
      name: 'small request, p50',
      value,
      unit: 'ms',
      better: 'less',
      must: IDLE_P50_MS,
      aim: undefined,
    });
    return figures;
  },
});
