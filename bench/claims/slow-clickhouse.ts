/**
 * Claim: ClickHouse becomes ten times as slow, and three times as much as it then can take is offered: what
 * overload.ts wants of a whole installation holds here too. A proxy before ClickHouse lets a tenth of the
 * bytes pass that went through while it was measured, and delays each piece. Starts everything itself; -d is
 * for how long (600 in the README), --settle-seconds until the room in Redis is used up.
 */
import { tickMs } from '../../src/base/clock.ts';
import { Installation } from '../installation.ts';
import { Brake } from './brake.ts';
import { type Figure, runClaim } from './claim.ts';
import { numberOf } from './numbers.ts';
import { pressed } from './pressed.ts';

const REDIS_BYTES_MAX = 128 * 2 ** 20;
const RSS_BYTES_MAX = 800e6;
const BEST_SECONDS = 15;
const SLOWER = 10;
/** Of each piece towards ClickHouse, and of each answer. */
const DELAY_MS = 20;

await runClaim({
  name: 'slow-clickhouse',
  description: 'Offers three times what a ClickHouse that has become slow can take; starts everything itself.',
  extend: (command) => command.option('--settle-seconds <s>', 'of load before it counts', numberOf, 30),
  body: async (options, measure, command) => {
    const { settleSeconds } = command.opts<{ settleSeconds: number }>();
    const brake = new Brake();
    const installation = await Installation.start({
      redisBytesMax: REDIS_BYTES_MAX,
      clickhouses: 1,
      gateways: 1,
      writers: 1,
      settings: {
        SLUICE_PRESSURE_MEMORY_BYTES_MAX: String(RSS_BYTES_MAX),
        // The smaller the batches, the less uneven is what a slow server takes of them.
        SLUICE_BATCH_BYTES_MAX: '4194304',
      },
      between: (port) => brake.before(port),
    });
    try {
      const fromBytes = brake.bytes;
      const fromMs = tickMs();
      const report = await measure({
        signals: ['traces'],
        protocol: 'http-protobuf',
        targets: installation.gateways.map(({ target }) => target),
        seconds: BEST_SECONDS,
        clickhouse: installation.clickhouses[0]?.url,
        pids: [],
        freshnessMs: 0,
      });
      const bytesPerSecond = ((brake.bytes - fromBytes) / (tickMs() - fromMs)) * 1000;
      const bytesPerItem = (brake.bytes - fromBytes) / report.acknowledged.items;
      brake.slow(bytesPerSecond / SLOWER, DELAY_MS);
      const best = bytesPerSecond / SLOWER / bytesPerItem;
      const figures: Figure[] = [
        { name: 'best of a slow one', value: best, unit: 'items/s', better: 'more', must: undefined, aim: undefined },
      ];
      const relieve = () => brake.slow(Number.POSITIVE_INFINITY, 0);
      const how = { best, seconds: options.seconds, settleSeconds, rssBytesMax: RSS_BYTES_MAX, relieve };
      figures.push(...(await pressed(installation, options, { ...how, honour: true })));
      return figures;
    } finally {
      await installation.stop();
      brake.release();
    }
  },
});
