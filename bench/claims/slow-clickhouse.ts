/**
 * Claim: ClickHouse becomes ten times as slow, and three times as much as it then can take is offered: what
 * overload.ts wants of a whole installation holds here too. A proxy before ClickHouse lets a tenth of the
 * bytes pass that go through at full speed, and delays each piece; what it can take then is measured by what
 * comes out, while the queue in Redis is full. That is small, so that it fills in --settle-seconds; -d is for
 * how long it counts (600 in the README). Starts everything itself.
 */
import { sleep, tickMs } from '../../src/base/clock.ts';
import { Accounting } from '../measure/accounting.ts';
import type { BenchOptions } from '../options.ts';
import { Brake } from './parts/brake.ts';
import { type Figure, type Measure, runClaim } from './claim.ts';
import { numberOf } from './parts/numbers.ts';
import { Offered } from './parts/offered.ts';
import { type Own, owning } from './parts/own.ts';
import { OVERLOAD, pressed } from './parts/pressed.ts';

const REDIS_BYTES_MAX = 512 * 2 ** 20;
const RSS_BYTES_MAX = 800e6;
const BEST_SECONDS = 15;
const SLOWER = 10;
/** Of each piece towards ClickHouse, and of each answer. */
const DELAY_MS = 20;
/** So long it takes a slow ClickHouse to empty the queue. */
const QUEUE_SECONDS = 10;
/** For how long it is measured what comes out. */
const OUT_SECONDS = 30;
/** The queue is full already, and what was asked for before is forgotten. */
const SETTLE_SECONDS = 5;
const FILL_CONNECTIONS = 64;
const FILL_REQUEST_ITEMS = 200;
/** Of what comes out: nothing else can be accepted while the queue is full. */
const ACCEPTED_PERCENT_MAX = 110;
const NONE = { better: 'less', must: undefined, aim: undefined } as const;

/** Of a ClickHouse at full speed. */
interface Best {
  readonly itemsPerSecond: number;
  /** Through the proxy. */
  readonly bytesPerItem: number;
}

await runClaim({
  name: 'slow-clickhouse',
  description: 'Offers three times what a ClickHouse that has become slow can take; starts everything itself.',
  extend: (command) => command.option('--settle-seconds <s>', 'of load until the queue is full', numberOf, 30),
  body: async (options, measure, command) => {
    const { settleSeconds } = command.opts<{ settleSeconds: number }>();
    const best = await withBrake({}, (own, brake) => fullSpeed(own, brake, measure));
    const slow = best.itemsPerSecond / SLOWER;
    const settings = {
      SLUICE_PRESSURE_MEMORY_BYTES_MAX: String(RSS_BYTES_MAX),
      SLUICE_QUEUE_BYTES_MAX: String(Math.round(slow * best.bytesPerItem * QUEUE_SECONDS)),
    };
    return withBrake(settings, async (own, brake) => {
      brake.slow(slow * best.bytesPerItem, DELAY_MS);
      const out = await outflow(own, options, slow, settleSeconds);
      const relieve = () => brake.free();
      const how = { best: out, seconds: options.seconds, settleSeconds: SETTLE_SECONDS, rssBytesMax: RSS_BYTES_MAX };
      const figures = await pressed(own.installation, options, {
        ...how, honour: true, relieve, acceptedPercentMax: ACCEPTED_PERCENT_MAX,
      });
      return [
        { ...NONE, name: 'at full speed', value: best.itemsPerSecond, unit: 'items/s' },
        { ...NONE, name: 'what comes out of a slow one', value: out, unit: 'items/s' },
        ...figures,
      ] satisfies Figure[];
    });
  },
});

async function withBrake<Result>(
  settings: Readonly<Record<string, string>>, body: (own: Own, brake: Brake) => Promise<Result>,
): Promise<Result> {
  const brake = new Brake();
  const between = (port: number) => brake.before(port);
  try {
    return await owning({ redisBytesMax: REDIS_BYTES_MAX, settings, between }, (own) => body(own, brake));
  } finally {
    brake.close();
  }
}

async function fullSpeed({ gateway, server }: Own, brake: Brake, measure: Measure): Promise<Best> {
  const fromBytes = brake.bytes;
  const { storage, itemsPerSecond, acknowledged } = await measure({
    signals: ['traces'],
    protocol: 'http-protobuf',
    targets: [gateway.target],
    seconds: BEST_SECONDS,
    clickhouse: server.url,
    pids: [],
    freshnessMs: 0,
  });
  return {
    itemsPerSecond: storage?.itemsPerSecond ?? itemsPerSecond,
    bytesPerItem: (brake.bytes - fromBytes) / acknowledged.items,
  };
}

/** What is written while the queue is full, items a second. @param slow about what that will be */
async function outflow(
  { gateway, server }: Own, options: BenchOptions, slow: number, settleSeconds: number,
): Promise<number> {
  const accounting = new Accounting(server.url, options.database);
  const offered = new Offered({
    target: gateway.target,
    protocol: 'http-protobuf',
    connections: FILL_CONNECTIONS,
    requestItems: FILL_REQUEST_ITEMS,
    seed: options.seed,
    timeoutMs: options.timeoutMs,
    honour: true,
  });
  const rows = () => accounting.rowCount(['traces']);
  try {
    const filling = offered.run(slow * OVERLOAD, settleSeconds + OUT_SECONDS);
    await sleep(settleSeconds * 1000);
    const [fromMs, before] = [tickMs(), await rows()];
    await filling;
    return (((await rows()) - before) / (tickMs() - fromMs)) * 1000;
  } finally {
    offered.close();
    await accounting.close();
  }
}
