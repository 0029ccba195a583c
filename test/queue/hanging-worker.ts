/** A writer for a test to kill: takes a job of the Redis at argv[2], prints its id, and never finishes it. */
import { pino } from 'pino';
import { JobWorker } from '../../src/queue/jobs.ts';
import { connectRedisForWorker } from '../../src/redis/connection.ts';
import { redisSettings, writeSettings } from '../support/settings.ts';

const url = process.argv[2] ?? '';
const logger = pino({ level: 'silent' });
new JobWorker({
  redis: connectRedisForWorker(redisSettings(url), logger),
  write: writeSettings({ insertsInFlightMax: 1, retryMsMin: 5, retryMsMax: 20 }),
  shard: 0,
  handle: ({ id }) => {
    process.stdout.write(`${id}\n`);
    return new Promise(() => {});
  },
  logger,
});
