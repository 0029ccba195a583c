/**
 * Goal: a URL becomes a working connection or a clear refusal, a server says what it is and knows, and
 * whatever goes wrong on the way leaves as a Fault that names the server and never the password.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { ConfigurationError, Fault } from '../../src/base/errors.ts';
import type { Logger } from '../../src/base/log.ts';
import { type ClickHouse, bounded, close, command, createClickHouse, parseClickHouseUrl, parseVersion, probe, query } from '../../src/clickhouse/client.ts';
import { quoteName } from '../../src/clickhouse/quote.ts';
import { freePort, silent, useClickHouse } from '../support/services.ts';

const PASSWORD = 'p@ss:w/rd%&?#';
const clickhouse = useClickHouse({
  usersXml: `<app><password>p@ss:w/rd%&amp;?#</password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota></app>`,
});

const opened: ClickHouse[] = [];
afterEach(async () => {
  for (const server of opened.splice(0)) await close(server);
});

function connect(url = clickhouse.url, timeoutMs = 60_000, logger: Logger = silent): ClickHouse {
  const server = createClickHouse(url, { insertTimeoutMs: timeoutMs, queryTimeoutMs: timeoutMs }, logger);
  opened.push(server);
  return server;
}

async function faultOf(call: Promise<unknown>): Promise<Fault> {
  const error = await call.then(() => undefined, (thrown: unknown) => thrown);
  if (!(error instanceof Fault)) throw new Error(`no Fault: ${error}`);
  return error;
}

describe('URLs', () => {
  test.each([
    ['http://h:1', { origin: 'http://h:1', host: 'h:1', pathname: '', username: 'default', password: '' }],
    ['https://u:p@h', { origin: 'https://h', host: 'h:443', pathname: '', username: 'u', password: 'p' }],
    ['http://h/', { origin: 'http://h', host: 'h:80', pathname: '', username: 'default', password: '' }],
    ['http://u@[::1]:1/proxy/ch/', {
      origin: 'http://[::1]:1', host: '[::1]:1', pathname: '/proxy/ch', username: 'u', password: '',
    }],
    ['http://a%40b:p%25%3A%2F@h:1', {
      origin: 'http://h:1', host: 'h:1', pathname: '', username: 'a@b', password: 'p%:/',
    }],
  ])('%s', (url, parsed) => {
    expect(parseClickHouseUrl(url)).toEqual(parsed);
  });

  test.each([
    ['no url', /is no http\(s\) URL/],
    ['clickhouse://h:9000', /is no http\(s\) URL/],
    ['http://u:secret@h?database=x', /parameters after "\?"/],
    ['http://u:secret%@h', /should be written %25/],
  ])('%s is refused, without its password', (url, why) => {
    expect(() => parseClickHouseUrl(url)).toThrow(ConfigurationError);
    expect(() => parseClickHouseUrl(url)).toThrow(why);
    expect(() => parseClickHouseUrl(url)).not.toThrow(/secret/);
  });

  test.each([['26.7.2.1', 26, 7, 2], ['18.16.1', 18, 16, 1], ['23.8', 23, 8, 0], ['', 0, 0, 0]])(
    'version %s', (text, major, minor, patch) => {
      expect(parseVersion(text)).toEqual({ major, minor, patch });
    });
});

describe('a real server', () => {
  test('says what it is and which settings it knows', async () => {
    const info = await probe(connect());
    expect(info.version.major).toBeGreaterThanOrEqual(26);
    expect(info.timezone).toMatch(/UTC/);
    expect(info.hasSetting('insert_deduplication_token')).toBe(true);
    expect(info.hasSetting('insert_deduplication_tokens')).toBe(false);
    expect(info.hasMergeTreeSetting('non_replicated_deduplication_window')).toBe(true);
    expect(info.hasMergeTreeSetting('insert_deduplication_token')).toBe(false);
  });

  test('rows come as objects, 64-bit integers as strings', async () => {
    const most = '18446744073709551615';
    const rows = await query(connect(), `SELECT number AS n, toString(n) AS s, ${most} AS most FROM numbers(2)`);
    expect(rows).toEqual([{ n: '0', s: '0', most }, { n: '1', s: '1', most }]);
    expect(await query(connect(), 'SELECT 1 WHERE 0')).toEqual([]);
  });

  test('settings go with a call', async () => {
    const sql = "SELECT value FROM system.settings WHERE name = 'max_block_size'";
    expect(await query(connect(), sql, { max_block_size: '777' })).toEqual([{ value: '777' }]);
  });

  test('statements and names of any characters', async () => {
    const name = quoteName('a`b\\c d');
    await command(connect(), `CREATE DATABASE ${name}`);
    const rows = await query(connect(), "SELECT name FROM system.databases WHERE name LIKE 'a%'");
    expect(rows).toEqual([{ name: 'a`b\\c d' }]);
    await command(connect(), `DROP DATABASE ${name}`);
  });

  test('a password with every awkward character', async () => {
    const server = connect(clickhouse.url.replace('//', `//app:${encodeURIComponent(PASSWORD)}@`));
    expect(await query(server, 'SELECT currentUser() AS user')).toEqual([{ user: 'app' }]);
  });

  test('a wrong password is a clear Fault, before any data is sent', async () => {
    const fault = await faultOf(probe(connect(clickhouse.url.replace('//', '//app:secret@'))));
    expect(fault).toMatchObject({ code: 'AUTHENTICATION_FAILED', retry: 'here' });
    const { host } = new URL(clickhouse.url);
    expect(fault.message).toContain(`ClickHouse at ${host}: user or password is wrong`);
    expect(fault.message).not.toContain('secret');
  });

  test.each([
    ['SELECT * FROM system.nothing', 'UNKNOWN_TABLE'],
    ['SELECT * FROM nothing.nothing', 'UNKNOWN_DATABASE'],
    // Fails after the first rows are out: the status must tell nevertheless.
    ['SELECT throwIf(number = 3000000) FROM numbers(4000000)', 'FUNCTION_THROW_IF_VALUE_IS_NON_ZERO'],
  ])('%s', async (sql, code) => {
    expect(await faultOf(query(connect(), sql))).toMatchObject({ code });
    expect(await faultOf(command(connect(), sql))).toMatchObject({ code });
  });

  test('a query that takes too long is given up', async () => {
    const sql = 'SELECT sleepEachRow(0.1) FROM numbers(20) SETTINGS max_block_size = 1';
    const fault = await faultOf(query(connect(), sql, {}, 100));
    expect(fault).toMatchObject({ code: 'clickhouse_timeout', retry: 'here' });
    expect(fault.message).toMatch(/didn't answer within 100 ms/);
  });

  test('a call that was stopped before it began is not begun', async () => {
    const reason = new Fault('stopping', 'here', 'stopping');
    const begin = () => Promise.reject(new Error('begun'));
    const call = bounded(connect(), 1000, AbortSignal.abort(reason), begin);
    expect(await faultOf(call)).toBe(reason);
  });

  test("the client's own log is only for who asks for details", async () => {
    const lines: string[] = [];
    const logAt = (level: string) => pino({ level }, { write: (line: string) => lines.push(line) });
    await faultOf(query(connect(clickhouse.url, 60_000, logAt('info')), 'SELECT nothing'));
    expect(lines).toEqual([]);
    await faultOf(query(connect(clickhouse.url, 60_000, logAt('debug')), 'SELECT nothing'));
    expect(lines.join()).toContain('HTTP request error');
  });
});

describe('no server', () => {
  test('nobody listens', async () => {
    const port = await freePort();
    const fault = await faultOf(probe(connect(`http://127.0.0.1:${port}`)));
    expect(fault).toMatchObject({ code: 'ECONNREFUSED', retry: 'elsewhere' });
    expect(fault.message).toContain(`127.0.0.1:${port}`);
  });

  test('a name that does not exist', async () => {
    const fault = await faultOf(probe(connect('http://nowhere.invalid:8123')));
    expect(fault.code).toMatch(/^(ENOTFOUND|EAI_AGAIN)$/);
    expect(fault.retry).toBe('elsewhere');
  });

  test('a connection that is closed without an answer', async () => {
    const server = createTcpServer((socket) => socket.once('data', () => socket.destroy()));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    expect(await faultOf(probe(connect(`http://127.0.0.1:${port}`)))).toMatchObject({ code: 'ECONNRESET' });
    server.close();
  });

  test('the port of the native protocol: its own words say which is the right one', async () => {
    const fault = await faultOf(probe(connect(`http://127.0.0.1:${clickhouse.tcpPort}`)));
    expect(fault.message).toMatch(/can't be reached|must use port|no code/);
  });

  test('a proxy whose server is away', async () => {
    const proxy = createServer((_, response) => response.writeHead(502).end('<html>Bad Gateway</html>'));
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const { port } = proxy.address() as AddressInfo;
    const fault = await faultOf(query(connect(`http://127.0.0.1:${port}`), 'SELECT 1'));
    expect(fault).toMatchObject({ code: 'clickhouse_answer_unknown', retry: 'here' });
    expect(fault.message).toContain('Bad Gateway');
    proxy.close();
  });
});
