/**
 * Claim: three times as much as the machine can take is offered for a while, by clients that honour the
 * delays they are given, and then by clients that don't: it goes on accepting what it can take, as fast as
 * before, in memory that doesn't grow; nothing accepted is lost, and every refusal can be sent again. First
 * measures the best rate that it keeps up. Starts everything itself; -d is for how long each (600 in the
 * README), --settle-seconds is for getting there.
 */
import { Installation } from '../installation.ts';
import { type Figure, runClaim } from './claim.ts';
import { numberOf } from './parts/numbers.ts';
import { pressed } from './parts/pressed.ts';

const REDIS_BYTES_MAX = 512 * 2 ** 20;
const RSS_BYTES_MAX = 800e6;
const BEST_SECONDS = 15;

await runClaim({
  name: 'overload',
  description: 'Offers three times what the machine can take; starts everything itself.',
  extend: (command) => command.option('--settle-seconds <s>', 'of load before it counts', numberOf, 10),
  body: async (options, measure, command) => {
    const { settleSeconds } = command.opts<{ settleSeconds: number }>();
    const installation = await Installation.start({
      redisBytesMax: REDIS_BYTES_MAX,
      clickhouses: 1,
      gateways: 1,
      writers: 1,
      settings: { SLUICE_PRESSURE_MEMORY_BYTES_MAX: String(RSS_BYTES_MAX) },
    });
    try {
      const report = await measure({
        signals: ['traces'],
        targets: installation.gateways.map(({ target, grpcTarget }) =>
          options.protocol === 'grpc' ? grpcTarget : target,
        ),
        seconds: BEST_SECONDS,
        clickhouse: installation.clickhouses[0]?.url,
        pids: [],
        freshnessMs: 0,
      });
      // Until the last item was there: what the writer and ClickHouse keep up with too.
      const best = report.storage?.itemsPerSecond ?? report.itemsPerSecond;
      const figures: Figure[] = [
        { name: 'best', value: best, unit: 'items/s', better: 'more', must: undefined, aim: undefined },
      ];
      const how = { best, seconds: options.seconds, settleSeconds, rssBytesMax: RSS_BYTES_MAX };
      for (const honour of [true, false]) {
        figures.push(...(await pressed(installation, options, { ...how, honour })));
      }
      return figures;
    } finally {
      await installation.stop();
    }
  },
});
