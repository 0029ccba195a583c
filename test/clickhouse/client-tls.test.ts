/**
 * Goal: a ClickHouse behind TLS is reached with an authority of one's own and, where it wants one, a
 * certificate of ours; without them it is refused, and files that can't be used are named.
 */
import { connect } from 'node:net';
import { type Server, createServer } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { type ClickHouseAccess, close, createClickHouse, query } from '../../src/clickhouse/client.ts';
import { Authority } from '../receive/authority.ts';
import { makeTempDir, removeTempDir, silent, useClickHouse } from '../support/services.ts';

const dir = makeTempDir();
const authority = new Authority(dir, 'ours');
const stranger = new Authority(dir, 'theirs');
const [own, client, wrong] = [authority.issue('server'), authority.issue('client'), stranger.issue('client')];
const clickhouse = useClickHouse();
let server: Server;

/** The TLS of a proxy in front of it; what is inside goes through as it is. */
beforeAll(async () => {
  const asked = { requestCert: true, rejectUnauthorized: true, ca: authority.pem };
  server = createServer({ ...own, ...asked }, (socket) => {
    const behind = connect(clickhouse.httpPort, '127.0.0.1');
    socket.pipe(behind).pipe(socket);
    for (const [one, other] of [[socket, behind], [behind, socket]] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
});
afterAll(async () => {
  await new Promise((closed) => server.close(closed));
  removeTempDir(dir);
});

const TIMEOUTS = { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 };

async function ask(access: Partial<ClickHouseAccess>): Promise<unknown> {
  const { port } = server.address() as { port: number };
  const made = createClickHouse(`https://127.0.0.1:${port}`, { ...TIMEOUTS, ...access }, silent);
  try {
    return await query(made, 'SELECT 1 AS one');
  } finally {
    await close(made);
  }
}

const ours = { tlsCaFile: authority.file, tlsCertFile: client.certFile, tlsKeyFile: client.keyFile };

test('with the authority and a certificate that it has signed', async () => {
  expect(await ask(ours)).toEqual([{ one: 1 }]);
});

test.each<[string, Partial<ClickHouseAccess>]>([
  ['the system does not know its authority', { tlsCertFile: client.certFile, tlsKeyFile: client.keyFile }],
  ['another authority', { ...ours, tlsCaFile: stranger.file }],
  ['no certificate', { tlsCaFile: authority.file }],
  ['a certificate of another', { ...ours, tlsCertFile: wrong.certFile, tlsKeyFile: wrong.keyFile }],
])('not with: %s', async (_, access) => {
  await expect(ask(access)).rejects.toMatchObject({ name: 'Fault' });
});

test.each<[string, Partial<ClickHouseAccess>, RegExp]>([
  ['a certificate without its key', { tlsCertFile: client.certFile }, /TLS_CERT_FILE and .* belong together/],
  ['a file that is missing', { tlsCaFile: '/nowhere.pem' }, /SLUICE_CLICKHOUSE_TLS_CA_FILE is \/nowhere\.pem/],
])('%s is a mistake in the settings', async (_, access, words) => {
  await expect(ask(access)).rejects.toThrow(ConfigurationError);
  await expect(ask(access)).rejects.toThrow(words);
});
