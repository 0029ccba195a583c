/** A writer for a test to kill: takes a job of the Redis at argv[2], prints its id, and never finishes it. */
import { pino } from 'pino';
import { JobWorker } from '../../src/queue/jobs.ts';
import { connectRedisForWorker } from '../../src/redis/connection.ts';

const url = process.argv[2] ?? '';
const logger = pino({ level: 'silent' });
new JobWorker({
  redis: connectRedisForWorker({ url, durability: 'everysec', timeoutMs: 5_000 }, logger),
  write: { insertsInFlightMax: 1, retryMsMin: 5, retryMsMax: 20, sweepMs: 1_000 },
  shard: 0,
  handle: ({ id }) => {
    process.stdout.write(`${id}\n`);
    return new Promise(() => {});
  },
  logger,
});
