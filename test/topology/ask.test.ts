/**
 * Goal: what a server says of itself is understood on the newest version, and a user who may not ask is no
 * reason to think ill of the server. On the oldest one: test/write/failover.test.ts.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { type ClickHouse, close, createClickHouse, probe } from '../../src/clickhouse/client.ts';
import { askReplica } from '../../src/topology/ask.ts';
import { freePort, silent, useClickHouse } from '../support/services.ts';

const USERS_XML = `<insert_only><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
  <quota>default</quota><grants><query>GRANT INSERT ON asked.*</query></grants></insert_only>`;
const clickhouse = useClickHouse({ usersXml: USERS_XML });
const TABLES = ['otel_logs', 'otel_traces'];

beforeAll(async () => {
  await clickhouse.query('CREATE DATABASE asked');
});

async function withServer<T>(url: string, body: (server: ClickHouse) => Promise<T>): Promise<T> {
  const server = createClickHouse(url, { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 }, silent);
  try {
    return await body(server);
  } finally {
    await close(server);
  }
}

const ask = (url: string) =>
  withServer(url, async (server) => askReplica(server, await probe(server), 'asked', TABLES));

describe('facts', () => {
  test('of an empty database', async () => {
    expect(await ask(clickhouse.url)).toEqual({
      tables: 0, replicated: 0, readonlyTable: undefined, delaySeconds: 0, queueSize: 0, partsMax: 0,
      insertsRunning: 0, diskFree: expect.closeTo(0.5, 0),
    });
  });

  test('tables that are there, and the parts of the fullest partition', async () => {
    await clickhouse.query('CREATE TABLE asked.otel_logs (Id UInt64) ENGINE = MergeTree PARTITION BY Id % 2 ORDER BY Id');
    await clickhouse.query('SYSTEM STOP MERGES asked.otel_logs');
    for (const id of [0, 2, 4, 1]) await clickhouse.query(`INSERT INTO asked.otel_logs SELECT ${id}`);
    expect(await ask(clickhouse.url)).toMatchObject({ tables: 1, partsMax: 3 });
  });

  test('a user without any grant to ask: nothing is known, and nothing wrong', async () => {
    const info = await withServer(clickhouse.url, probe);
    const url = clickhouse.url.replace('//', '//insert_only@');
    const facts = await withServer(url, (server) => askReplica(server, info, 'asked', TABLES));
    expect(facts).toMatchObject({ tables: 1, replicated: undefined, partsMax: undefined, diskFree: undefined });
  });

  test('a server that is away is a Fault', async () => {
    const info = await withServer(clickhouse.url, probe);
    const away = `http://127.0.0.1:${await freePort()}`;
    const asked = withServer(away, (server) => askReplica(server, info, 'asked', TABLES));
    await expect(asked).rejects.toMatchObject({ name: 'Fault', code: 'ECONNREFUSED' });
  });

  test('a user who is not let in is a Fault: inserts would fail too', async () => {
    const info = await withServer(clickhouse.url, probe);
    const url = clickhouse.url.replace('//', '//nobody@');
    const asked = withServer(url, (server) => askReplica(server, info, 'asked', TABLES));
    await expect(asked).rejects.toMatchObject({ name: 'Fault', code: 'AUTHENTICATION_FAILED' });
  });
});
