/**
 * Goal: files of TLS that can't be used stop the start with the setting's name, or leave the old ones in use
 * later; new ones are taken, also when a mounted Secret is swapped.
 */
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { type TlsFiles, type TlsSettings, openTls } from '../../src/base/tls.ts';
import { makeTempDir, removeTempDir, silent } from '../support/services.ts';
import { Authority } from './authority.ts';
import { until } from './support.ts';
import { open, replace } from './tls-front.ts';

const dir = makeTempDir();
const authority = new Authority(dir, 'one');
const [first, second] = [authority.issue('first'), authority.issue('second', { commonName: 'second' })];
const ended = authority.issue('ended', { days: -1 });
const garbage = join(dir, 'garbage.pem');
writeFileSync(garbage, '-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n');
const empty = join(dir, 'empty.pem');
writeFileSync(empty, '');

const opened: TlsFiles[] = [];
afterEach(() => {
  for (const files of opened.splice(0)) files.close();
});
afterAll(() => removeTempDir(dir));

const { certFile, keyFile } = first;
const clientCaFile = authority.file;

test.each<[string, Partial<TlsSettings>, RegExp]>([
  ['a certificate without a key', { certFile }, /^SLUICE_RECEIVE_TLS_KEY_FILE is empty/],
  ['a key without a certificate', { keyFile }, /^SLUICE_RECEIVE_TLS_CERT_FILE is empty/],
  ['only authorities', { clientCaFile }, /^SLUICE_RECEIVE_TLS_CERT_FILE is empty/],
  ['a file that is missing', { certFile: '/nowhere', keyFile }, /CERT_FILE is \/nowhere, which can't be read/],
  ['an empty file', { certFile: empty, keyFile }, /CERT_FILE is .*, which holds no certificate in PEM/],
  ['a certificate that is none', { certFile: garbage, keyFile }, /CERT_FILE is .*can't be read/],
  ['a key that is a certificate', { certFile, keyFile: certFile }, /KEY_FILE is .*holds no key/],
  ['the key of another', { certFile, keyFile: second.keyFile }, /KEY_FILE is .*not the key of the certificate/],
  ['authorities that nobody uses', { certFile, keyFile, clientCaFile }, /CLIENT_CA_FILE is set, but .* is off/],
  ['no authorities', { certFile, keyFile, clientAuth: 'required' }, /CLIENT_CA_FILE is empty/],
  ['authorities that are a key', { certFile, keyFile, clientCaFile: keyFile, clientAuth: 'optional' },
    /CLIENT_CA_FILE is .*, which holds no certificate/],
])('%s stops the start', (_, settings, words) => {
  expect(() => open(settings)).toThrow(ConfigurationError);
  expect(() => open(settings)).toThrow(words);
});

test('without any file there is no TLS', () => {
  const settings: TlsSettings = { certFile: '', keyFile: '', clientCaFile: '', clientAuth: 'off' };
  const onCertificate = () => undefined;
  expect(openTls({ port: 'x', env: 'X', settings, logger: silent, onCertificate })).toBeUndefined();
});

function logged() {
  const lines: { level: number; msg: string; reason?: string }[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { lines, logger };
}

test('a certificate that has ended is taken, with a warning', () => {
  const { lines, logger } = logged();
  const ends: number[] = [];
  opened.push(open(ended, (seconds) => ends.push(seconds), logger));
  expect(lines.map(({ level, msg }) => [level, msg])).toEqual([
    [40, 'the certificate in SLUICE_RECEIVE_TLS_CERT_FILE has ended'],
  ]);
  expect(ends[0]).toBeLessThan(Date.now() / 1000);
});

test('one that ends within a week is warned of, too', () => {
  const { lines, logger } = logged();
  opened.push(open(first, () => undefined, logger));
  expect(lines.map(({ msg }) => msg)).toEqual(['the certificate in SLUICE_RECEIVE_TLS_CERT_FILE ends soon']);
});

/** Files of a port that the test replaces. */
function replaceable(name: string) {
  const files = { certFile: join(dir, `${name}.pem`), keyFile: join(dir, `${name}.key`) };
  const put = (issued: { cert: Buffer; key: Buffer }) => {
    replace(files.certFile, issued.cert);
    replace(files.keyFile, issued.key);
  };
  put(first);
  return { ...files, put };
}

test('new files are noticed, and given to every server until it stops', async () => {
  const files = replaceable('noticed');
  const tls = open(files);
  opened.push(tls);
  const got: unknown[] = [];
  const stop = tls.serve({ setSecureContext: ({ cert }) => got.push(cert) });
  files.put(second);
  await until(() => got.length === 1);
  expect(got).toEqual([second.cert]);
  expect(tls.serverOptions.cert).toEqual(second.cert);
  stop();
  files.put(first);
  await until(() => Buffer.isBuffer(tls.serverOptions.cert) && tls.serverOptions.cert.equals(first.cert));
  expect(got).toHaveLength(1);
});

test('files that do not fit are refused, said once, and the old ones stay; then the right ones are taken', async () => {
  const files = replaceable('wrong');
  const { lines, logger } = logged();
  const tls = open(files, () => undefined, logger);
  opened.push(tls);
  replace(files.keyFile, second.key);
  expect(await tls.reload()).toEqual({ kind: 'refused', why: expect.stringContaining('is not the key') });
  await until(() => lines.some(({ level }) => level === 50));
  for (let looks = 0; looks < 5; looks++) await tls.reload();
  expect(lines.filter(({ level }) => level === 50)).toHaveLength(1);
  expect(tls.serverOptions).toMatchObject({ cert: first.cert, key: first.key });
  replace(files.certFile, second.cert);
  await until(() => lines.some(({ msg }) => msg === 'new certificate'));
  expect(tls.serverOptions).toMatchObject({ cert: second.cert, key: second.key });
  expect(await tls.reload()).toEqual({ kind: 'same' });
});

test('files that are gone for a moment are no reason to stop', async () => {
  const files = replaceable('gone');
  const tls = open(files);
  opened.push(tls);
  renameSync(files.keyFile, `${files.keyFile}.away`);
  expect(await tls.reload()).toEqual({ kind: 'refused', why: expect.stringContaining('ENOENT') });
  expect(tls.serverOptions.key).toEqual(first.key);
  renameSync(`${files.keyFile}.away`, files.keyFile);
  await until(async () => (await tls.reload()).kind === 'same');
});

test('a mounted Secret is swapped by its link, with new authorities of clients', async () => {
  const mount = join(dir, 'mount');
  const other = new Authority(dir, 'other');
  const version = (name: string, issued: { cert: Buffer; key: Buffer }, ca: Buffer) => {
    const folder = join(dir, name);
    mkdirSync(folder);
    for (const [file, bytes] of Object.entries({ 'tls.crt': issued.cert, 'tls.key': issued.key, 'ca.crt': ca })) {
      writeFileSync(join(folder, file), bytes);
    }
    symlinkSync(folder, join(mount, '..data.new'));
    renameSync(join(mount, '..data.new'), join(mount, '..data'));
  };
  mkdirSync(mount);
  version('v1', first, authority.pem);
  for (const file of ['tls.crt', 'tls.key', 'ca.crt']) symlinkSync(`..data/${file}`, join(mount, file));
  const tls = open({
    certFile: join(mount, 'tls.crt'),
    keyFile: join(mount, 'tls.key'),
    clientCaFile: join(mount, 'ca.crt'),
    clientAuth: 'required',
  });
  opened.push(tls);
  expect(tls.serverOptions).toMatchObject({ requestCert: true, rejectUnauthorized: true, ca: authority.pem });
  version('v2', second, other.pem);
  await until(() => (tls.serverOptions.ca as Buffer).equals(other.pem));
  expect(tls.serverOptions.cert).toEqual(readFileSync(second.certFile));
});
