/** Claim: the memory of gateway and writer at full load stays small and flat; take a --duration of 600 s. */
import { runClaim } from './claim.ts';

/** Memory still settles at first; from then on it may grow by this factor until the end. */
const GROWTH_MAX = 1.1;

await runClaim({
  name: 'memory',
  description: 'Resident memory of gateway and writer as fast as it goes; take a --duration of 600 s.',
  body: async (_, measure) => {
    const { rssBytes } = await measure({ signals: ['traces'], freshnessMs: 0, rate: undefined });
    const quarter = Math.floor(rssBytes.length / 4);
    if (quarter === 0) throw new Error('too short to judge: take a --duration of 10 s at least');
    const early = mean(rssBytes.slice(quarter, 2 * quarter));
    if (early === 0) throw new Error('found no processes to measure: name them with --pids role=pid,…');
    const peak = Math.max(...rssBytes) / 1e6;
    const growth = mean(rssBytes.slice(-quarter)) / early;
    return [
      { name: 'at most', value: peak, unit: 'MB', better: 'less', must: 400, aim: 250 },
      {
        name: 'last quarter of the time to the second',
        value: growth,
        unit: 'ratio',
        better: 'less',
        must: GROWTH_MAX,
        aim: undefined,
      },
    ];
  },
});

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
