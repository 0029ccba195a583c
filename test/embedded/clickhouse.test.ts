// Goal: the embedded ClickHouse is a real server that keeps what it acknowledged through stop and kill -9,
// is bounded and quiet, and whose failures to start end in a sentence with the setting to change.
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { freePort, startClickHouse, useClickHouse, withTempDir } from '../support/services.ts';

describe('a running server', () => {
  const clickhouse = useClickHouse({ memoryBytesMax: 700_000_000 });

  test('is ClickHouse 26.7 in UTC, whatever the time zone of the machine', async () => {
    const [about] = await clickhouse.rows(
      "SELECT version() AS version, timezone() AS timezone, now() = now('UTC') AS utc",
    );
    expect(about).toMatchObject({ version: expect.stringMatching(/^26\.7\./), timezone: 'UTC', utc: 1 });
  });

  test('answers the native protocol too', async () => {
    const greeting = await new Promise<string>((resolve, reject) => {
      const socket = connect(clickhouse.tcpPort, '127.0.0.1', () => socket.write('GET / HTTP/1.0\r\n\r\n'));
      socket.once('data', (bytes) => resolve(bytes.toString('latin1')));
      socket.once('error', reject);
      socket.once('close', () => resolve(''));
    });
    expect(greeting).toContain(`${clickhouse.tcpPort}`);
  });

  test('has a bound on its memory, and refuses a query beyond it', async () => {
    const [bound] = await clickhouse.rows(
      "SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'",
    );
    expect(bound).toEqual({ value: '700000000' });
    await expect(
      clickhouse.query('SELECT count() FROM (SELECT groupArray(number) FROM numbers(200000000))'),
    ).rejects.toThrow('Code: 241');
    await expect(clickhouse.query('SELECT 1')).resolves.toBe('1\n');
  });

  test('has no system log tables and writes no line per query', async () => {
    const log = () => readFileSync(`${clickhouse.dataDir}/server.log`, 'utf8');
    const before = log().length;
    for (let round = 0; round < 20; round++) await clickhouse.query("SELECT 'not in the log'");
    const lines = log().slice(before).split('\n');
    expect(lines.filter((line) => line.includes('not in the log'))).toEqual([]);
    // A warning of a busy machine may be there.
    expect(lines.length).toBeLessThan(20);
    const logs = await clickhouse.rows(
      "SELECT name FROM system.tables WHERE database = 'system' AND engine LIKE '%MergeTree'",
    );
    expect(logs).toEqual([]);
  });

  test('refuses its own port to a second one, naming port and setting', async () => {
    await withTempDir(async (dataDir) => {
      const second = startClickHouse({ dataDir, httpPort: clickhouse.httpPort });
      await expect(second).rejects.toThrow(ConfigurationError);
      await expect(second).rejects.toThrow(`port ${clickhouse.httpPort} for the embedded ClickHouse's HTTP`);
      await expect(second).rejects.toThrow('SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT');
      await expect(startClickHouse({ dataDir, tcpPort: clickhouse.tcpPort })).rejects.toThrow(
        'SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT',
      );
    });
  });
});

test('rows acknowledged before a stop, a kill -9 or both are there afterwards', () =>
  withTempDir(async (dataDir) => {
    const first = await startClickHouse({ dataDir });
    await first.query('CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n');
    await first.query('INSERT INTO kept SELECT number FROM numbers(1000)');
    await first.stop();
    await expect(first.ended).resolves.toMatch(/signal SIGTERM|exit code/);
    await first.stop();

    const second = await startClickHouse({ dataDir });
    await expect(second.query('SELECT count() FROM kept')).resolves.toBe('1000\n');
    await second.query('INSERT INTO kept SELECT number FROM numbers(1000, 500)');
    process.kill(second.pid, 'SIGKILL');
    await expect(second.ended).resolves.toBe('signal SIGKILL');

    const third = await startClickHouse({ dataDir });
    await expect(third.query('SELECT count(), max(n) FROM kept')).resolves.toBe('1500\t1499\n');
    await third.stop();
  }));

test('a server that ends while it starts is reported with the tail of its log', () =>
  withTempDir(async (dataDir) => {
    await expect(startClickHouse({ dataDir, configXml: '<not closed' })).rejects.toThrow(
      /the embedded ClickHouse ended while it started \(.*its log ends with:\n.*config\.xml/s,
    );
  }));

test('macros, clusters and users of the caller are taken', async () => {
  const tcpPort = await freePort();
  const usersXml = `<app><password>secret</password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota></app>`;
  const configXml = `<macros><shard>1</shard></macros>
    <remote_servers><two><shard><replica><host>127.0.0.1</host><port>${tcpPort}</port>
    </replica></shard></two></remote_servers>`;
  const clickhouse = await startClickHouse({ tcpPort, configXml, usersXml });
  try {
    const login = { user: 'app', password: 'secret' };
    await expect(clickhouse.query('SELECT 1', { ...login, password: 'wrong' })).rejects.toThrow('Code: 516');
    await expect(clickhouse.query("SELECT getMacro('shard')", login)).resolves.toBe('1\n');
    await expect(
      clickhouse.query("SELECT cluster, is_local FROM system.clusters WHERE cluster = 'two'", login),
    ).resolves.toBe('two\t1\n');
  } finally {
    await clickhouse.stop();
  }
});

test('a port that somebody else holds is refused before anything is started', () =>
  withTempDir(async (dataDir) => {
    const taken = createServer();
    const port = await freePort();
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
    await expect(startClickHouse({ dataDir, httpPort: port })).rejects.toThrow('it is taken');
    await new Promise((resolve) => taken.close(resolve));
  }));
