/** Claim: how many spans a second go from the client into ClickHouse, as fast as it goes, counted there. */
import { runClaim } from './claim.ts';

await runClaim({
  name: 'throughput',
  description: 'Spans per second end to end; take a --duration of 30 s or more.',
  body: async (_, measure) => {
    const { storage } = await measure({ signals: ['traces'], freshnessMs: 0, rate: undefined });
    const value = storage?.itemsPerSecond ?? 0;
    return [{ name: 'end to end', value, unit: 'spans/s', better: 'more', must: 100_000, aim: 200_000 }];
  },
});
