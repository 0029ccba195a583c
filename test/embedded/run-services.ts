/**
 * A program of its own for the tests: runs both embedded services until it is ended. Argument:
 * ServicesArgument as JSON.
 */
import { createLogger } from '../../src/base/log.ts';
import { startEmbeddedClickHouse } from '../../src/embedded/clickhouse.ts';
import { startEmbeddedRedis } from '../../src/embedded/redis.ts';

export interface ServicesArgument {
  readonly dir: string;
  readonly httpPort: number;
  readonly tcpPort: number;
  readonly redisPort: number;
}

const { dir, httpPort, tcpPort, redisPort } = JSON.parse(process.argv[2] ?? '{}') as ServicesArgument;
const logger = createLogger('silent', 'json');
const clickhouse = await startEmbeddedClickHouse({ dataDir: `${dir}/clickhouse`, httpPort, tcpPort, logger });
const redis = await startEmbeddedRedis({ dataDir: `${dir}/redis`, port: redisPort, logger });
process.stdout.write(`${JSON.stringify({ clickhouse: clickhouse.pid, redis: redis.pid })}\n`);
