// Goal: the embedded services end with the program that started them, also when that is killed with -9; and
// signals to the program's group (Ctrl-C in a terminal) don't reach them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { eventually, freePort, startClickHouse, startRedis, withTempDir } from '../support/services.ts';
import type { ServicesArgument } from './run-services.ts';

const PROGRAM = fileURLToPath(new URL('./run-services.ts', import.meta.url));

async function startProgram(argument: ServicesArgument) {
  const program = spawn(process.execPath, [PROGRAM, JSON.stringify(argument)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(program.stdout, 'data')) as [Buffer];
  return { program, pids: JSON.parse(line.toString('utf8')) as { clickhouse: number; redis: number } };
}

/** Gone, or dead and only waiting for whoever inherits it (in a container perhaps nobody). */
function isGone(pid: number): boolean {
  try {
    return /^\d+ \(.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return true; // no such process
  }
}

const groupOf = (pid: number) =>
  Number(/^\d+ \(.*\) \S \d+ (\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1]);

test('kill -9 of the program ends both services, and a new start on the same ports and data works', () =>
  withTempDir(async (dir) => {
    const argument = {
      dir,
      httpPort: await freePort(),
      tcpPort: await freePort(),
      redisPort: await freePort(),
    };
    const { program, pids } = await startProgram(argument);
    expect(groupOf(pids.clickhouse)).not.toBe(groupOf(program.pid as number));
    expect(groupOf(pids.redis)).not.toBe(groupOf(program.pid as number));
    program.kill('SIGKILL');
    await eventually('both services are gone', () => isGone(pids.clickhouse) && isGone(pids.redis));

    const { httpPort, tcpPort, redisPort } = argument;
    const clickhouse = await startClickHouse({ dataDir: `${dir}/clickhouse`, httpPort, tcpPort });
    const redis = await startRedis({ dataDir: `${dir}/redis`, port: redisPort });
    await clickhouse.stop();
    await redis.stop();
  }));
