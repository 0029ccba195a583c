/** A writer for a test to kill: takes a job of the Redis at argv[2], prints its id, and never finishes it. */
import { pino } from 'pino';
import { JobWorker } from '../../src/queue/jobs.ts';

const url = process.argv[2] ?? '';
new JobWorker({
  redis: { url, durability: 'everysec', timeoutMs: 5_000 },
  write: { insertsInFlightMax: 1, retryMsMin: 5, retryMsMax: 20, sweepMs: 1_000 },
  shard: 0,
  handle: ({ id }) => {
    process.stdout.write(`${id}\n`);
    return new Promise(() => {});
  },
  logger: pino({ level: 'silent' }),
});
