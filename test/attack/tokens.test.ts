/**
 * Goal: who shows a wrong token, or another's, gets an answer before anything of the body is read, over both
 * transports and in whatever form it is shown; a flood of them takes no memory, nothing of it is stored, each
 * is counted, and no token gets into a log line or a metric.
 */
import { describe, expect, test } from 'vitest';
import { hashToken, newToken } from '../../src/admit/tokens.ts';
import { digestOf } from '../../src/base/token-hash.ts';
import { bareCall } from '../receive/support.ts';
import { EXPORT, frame, openSession } from '../support/clients.ts';
import { eventually } from '../support/services.ts';
import {
  CALL, END_HEADERS, END_STREAM, ERROR, type Fields, NOTHING, SETTINGS_ACK, TYPE, block, data, frameOf, h2,
  headers,
} from './frames.ts';
import { BODY, CHUNKED, LENGTH, post } from './messages.ts';
import { type Attacked, HTTP_SERVERS, answersIn, rawConnection, saidTo, useAttackedProgram } from './support.ts';

const [SHOP, BANK] = [newToken(), newToken()];
const REQUEST_BYTES_MAX = 1_000_000;
/** Of each server. */
const FLOOD = 7_000;
const CLIENTS = 100;
const SESSIONS = 10;
const CALLS_AT_ONCE = 100;
/** A clock of the server's ends what pauses after 12 s at the latest. */
const ENDED_MS_MAX = 40_000;

const SETTINGS = {
  SLUICE_TENANTS: JSON.stringify([
    { name: 'shop', tokens: [hashToken(SHOP)] },
    { name: 'bank', tokens: [hashToken(BANK)] },
  ]),
  // The neighbour shows nothing, and is the tenant `default`.
  SLUICE_TENANTS_HEADER: 'x-tenant',
  SLUICE_REQUEST_BYTES_MAX: String(REQUEST_BYTES_MAX),
  // What is in the log then is all that can be.
  SLUICE_LOG_LEVEL: 'debug',
  SLUICE_LOG_FORMAT: 'json',
};
const PROGRAMS = HTTP_SERVERS.map(
  ([name, served]) => [name, useAttackedProgram({ ...SETTINGS, ...served })] as const,
);

type Kind = 'taken' | 'unauthenticated' | 'forbidden';
const bearer = (token: string) => ['authorization', `Bearer ${token}`] as const;
const key = (token: string) => ['x-api-key', token] as const;
const named = (name: string) => ['x-tenant', name] as const;

const FORMS: readonly (readonly [string, Kind, Fields])[] = [
  ['a token', 'taken', [bearer(SHOP)]],
  ['an API key', 'taken', [key(SHOP)]],
  ['both', 'taken', [bearer(SHOP), key(SHOP)]],
  ['a token and its name', 'taken', [bearer(SHOP), named('shop')]],
  ['bearer in small letters', 'taken', [['authorization', `bearer ${SHOP}`]]],
  ['bearer in capitals', 'taken', [['authorization', `BEARER ${SHOP}`]]],
  ['several blanks', 'taken', [['authorization', `Bearer   ${SHOP}`]]],
  ['nothing behind the name of the header', 'taken', [['authorization', '']]],
  ['a wrong token', 'unauthenticated', [bearer(newToken())]],
  ['a wrong API key', 'unauthenticated', [key(newToken())]],
  ['a right token and a wrong API key', 'unauthenticated', [bearer(SHOP), key(newToken())]],
  ['a wrong token and a right API key', 'unauthenticated', [bearer(newToken()), key(SHOP)]],
  ['a wrong token and a name', 'unauthenticated', [bearer(newToken()), named('shop')]],
  ['a wrong token and the default', 'unauthenticated', [bearer(newToken()), named('default')]],
  ['one character less', 'unauthenticated', [bearer(SHOP.slice(0, -1))]],
  ['one character more', 'unauthenticated', [bearer(`${SHOP}A`)]],
  ['other letters', 'unauthenticated', [bearer(SHOP.toUpperCase())]],
  ['quotes', 'unauthenticated', [bearer(`"${SHOP}"`)]],
  ['two in one', 'unauthenticated', [bearer(`${SHOP}, ${SHOP}`)]],
  ['the hash of one', 'unauthenticated', [bearer(hashToken(SHOP))]],
  ['the digest of one', 'unauthenticated', [bearer(digestOf(SHOP))]],
  ['bearer alone', 'unauthenticated', [['authorization', 'Bearer']]],
  ['no scheme', 'unauthenticated', [['authorization', SHOP]]],
  ['another scheme', 'unauthenticated', [['authorization', `Basic ${SHOP}`]]],
  ['a tab for the blank', 'unauthenticated', [['authorization', `Bearer\t${SHOP}`]]],
  ['12 KB', 'unauthenticated', [bearer('y'.repeat(12_000))]],
  ['tokens of two tenants', 'forbidden', [bearer(SHOP), key(BANK)]],
  ["another's name", 'forbidden', [bearer(SHOP), named('bank')]],
  ['the default', 'forbidden', [bearer(SHOP), named('default')]],
  ['an unknown name', 'forbidden', [bearer(SHOP), named('nobody')]],
  ['its own name in capitals', 'forbidden', [bearer(SHOP), named('SHOP')]],
  ['a name alone', 'forbidden', [named('shop')]],
];
const FORMS_REFUSED = FORMS.filter(([, kind]) => kind !== 'taken').length;
const EXPECTED = Object.fromEntries(FORMS.map(([name, kind]) => [name, kind]));

const HTTP_KINDS: Readonly<Record<string, Kind>> = { 200: 'taken', 401: 'unauthenticated', 403: 'forbidden' };
const GRPC_KINDS: Readonly<Record<string, Kind>> = { 0: 'taken', 16: 'unauthenticated', 7: 'forbidden' };

const WRONG = [bearer(newToken())];
const lines = (fields: Fields) => fields.map(([name, value]) => `${name}: ${value}\r\n`).join('');

/** So many more failures are counted while the body runs, and no token comes to light. */
async function failing(attacked: Attacked, just: number, body: () => Promise<void>): Promise<void> {
  await attacked.counting('auth_failures_total', {}, { just }, () => attacked.surviving(body));
  const metrics = await (await fetch(`${attacked.program.admin}/metrics`)).text();
  for (const text of [metrics, attacked.program.stdout(), attacked.program.stderr()]) {
    expect(text).not.toMatch(/slc_/i);
    for (const token of [SHOP, BANK]) expect(text).not.toContain(digestOf(token));
  }
}

describe.each(PROGRAMS)('over HTTP, on %s', (_, attacked) => {
  test('in all forms', () =>
    failing(attacked, FORMS_REFUSED, async () => {
      const said = await Promise.all(FORMS.map(async ([name, kind, fields]) => {
        // What is taken stores nothing.
        const length = kind === 'taken' ? 'Content-Length: 0\r\n' : LENGTH;
        const body = kind === 'taken' ? '' : BODY;
        const { text } = await saidTo(attacked.program.httpPort, post(lines(fields) + length, { body }));
        return [name, answersIn(text).map((status) => HTTP_KINDS[status] ?? status).join()];
      }));
      expect(Object.fromEntries(said)).toEqual(EXPECTED);
    }));

  test('several headers of one name: the first counts, or all of them are refused', () =>
    failing(attacked, 3, async () => {
      const codes = async (...fields: Fields) => {
        const bytes = post(`${lines(fields)}${LENGTH}`);
        return answersIn((await saidTo(attacked.program.httpPort, bytes)).text);
      };
      expect(await codes(...WRONG, bearer(SHOP))).toEqual(['401']);
      expect(await codes(key(newToken()), key(SHOP))).toEqual(['401']);
      expect(await codes(named('bank'), named('shop'), bearer(SHOP))).toEqual(['403']);
    }));

  test('a token of 64 KiB', () =>
    failing(attacked, 0, async () => {
      const bytes = post(lines([bearer('y'.repeat(2 ** 16))]) + LENGTH);
      const said = await saidTo(attacked.program.httpPort, bytes);
      expect([answersIn(said.text), said.closed]).toEqual([['431'], true]);
    }));

  test('a flood of different ones', () =>
    failing(attacked, FLOOD, async () => {
      await Promise.all(Array.from({ length: CLIENTS }, async () => {
        const raw = await rawConnection(attacked.program.httpPort);
        const answers = () => answersIn(raw.received().toString('latin1'));
        for (let sent = 1; sent <= FLOOD / CLIENTS; sent++) {
          await raw.write(post(lines([bearer(newToken())]) + LENGTH));
          await eventually(`${sent} answers`, () => answers().length === sent);
        }
        expect(new Set(answers())).toEqual(new Set(['401']));
        raw.destroy();
      }));
    }));
});

/** At the same time, because it takes its time. */
const TOGETHER = test.concurrent.each(PROGRAMS);
TOGETHER('over HTTP, on %s: a body without end is answered', async (_, attacked) => {
  const answers = { transport: 'http', code: '401' };
  await attacked.counting('requests_total', answers, { just: 4 }, () => failing(attacked, 4, async () => {
    const { httpPort } = attacked.program;
    /** Sends pieces until the server has ended the connection; what has come back then. */
    const answered = async (name: string, piece = '', everyMs = 0) => {
      const raw = await rawConnection(httpPort);
      await raw.write(post(lines(WRONG) + CHUNKED, { body: '' }));
      const timer = piece === '' ? undefined : setInterval(() => raw.write(piece), everyMs);
      raw.closed.then(() => clearInterval(timer));
      await eventually(`the end of ${name}`, raw.isClosed, ENDED_MS_MAX);
      return answersIn(raw.received().toString('latin1'));
    };
    const chunk = `10000\r\n${'y'.repeat(2 ** 16)}\r\n`;
    const declared = async (bytes: number, rest = Buffer.alloc(0)) => {
      const head = post(`${lines(WRONG)}Content-Length: ${bytes}\r\n`, { body: '' });
      const said = await saidTo(httpPort, head, rest);
      return [...answersIn(said.text), said.closed ? 'ended' : 'open'].join(' ');
    };
    // None of it has come. What is too large for everybody is refused before anybody is asked who he is.
    expect(await declared(REQUEST_BYTES_MAX, Buffer.alloc(REQUEST_BYTES_MAX))).toBe('401 open');
    expect(await declared(2 ** 40)).toBe('413 ended');
    const [waiting, ...sending] = await Promise.all([
      answered('chunks that do not come'),
      answered('chunks as fast as they go', chunk, 1),
      answered('chunks that drip in', '1\r\ny\r\n', 50),
    ]);
    expect(waiting).toEqual(['401']);
    // Here a write that fails throws away what has come and wasn't read; the counter says that it was sent.
    for (const answer of sending) expect(answer.join()).toMatch(/^(401)?$/);
  }));
});

describe('over gRPC', () => {
  const attacked = PROGRAMS[0]?.[1] as Attacked;
  const wrongCall: Fields = [...CALL, ...WRONG];

  test('in all forms', () =>
    failing(attacked, FORMS_REFUSED, async () => {
      const session = openSession(attacked.program.grpcPort);
      try {
        const said = await Promise.all(FORMS.map(async ([name, kind, fields]) => {
          const piece = frame(kind === 'taken' ? NOTHING : BODY);
          const reply = await bareCall(session, EXPORT.traces, [piece], Object.fromEntries(fields));
          const status = String(reply.headers['grpc-status'] ?? reply.trailers['grpc-status']);
          return [name, GRPC_KINDS[status] ?? status];
        }));
        expect(Object.fromEntries(said)).toEqual(EXPECTED);
      } finally {
        session.destroy();
      }
    }));

  test('several headers of one name: the first counts, or all of them are refused', () =>
    attacked.counting('requests_total', { transport: 'grpc', code: '16' }, { just: 2 }, () =>
      failing(attacked, 3, async () => {
        const connection = await h2(attacked.program.grpcPort);
        await connection.write(SETTINGS_ACK);
        const calls: readonly Fields[] = [
          [...WRONG, bearer(SHOP)],
          [key(newToken()), key(SHOP)],
          [named('bank'), named('shop'), bearer(SHOP)],
        ];
        await connection.write(Buffer.concat(calls.flatMap((fields, i) => [
          headers(1 + 2 * i, [...CALL, ...fields]), data(1 + 2 * i, frame(BODY), END_STREAM),
        ])));
        const answers = () => connection.frames().filter(({ type }) => type === TYPE.headers).length;
        await eventually('answers', () => answers() === calls.length);
        connection.destroy();
      }),
    ));

  test('a token of 64 KiB', () =>
    failing(attacked, 0, async () => {
      const connection = await h2(attacked.program.grpcPort);
      await connection.write(SETTINGS_ACK);
      const fields = block([...CALL, bearer('y'.repeat(2 ** 16))]);
      const parts = Array.from({ length: Math.ceil(fields.length / 16_000) }, (_, i) =>
        fields.subarray(i * 16_000, (i + 1) * 16_000),
      );
      await connection.write(Buffer.concat(parts.map((part, i) =>
        frameOf(i === 0 ? TYPE.headers : TYPE.continuation, i === parts.length - 1 ? END_HEADERS : 0, 1, part),
      )));
      const over = () => connection.isClosed() || connection.reset(1) === ERROR.enhanceYourCalm;
      await eventually('the end', over);
      connection.destroy();
    }));

  test('with a message without end: an answer, and the end', () =>
    failing(attacked, 1, async () => {
      const connection = await h2(attacked.program.grpcPort);
      await connection.write(Buffer.concat([SETTINGS_ACK, headers(1, wrongCall)]));
      const answer = () => connection.frames().find(({ type, stream }) => type === TYPE.headers && stream === 1);
      expect((await eventually('the answer', answer)).flags & END_STREAM).toBe(END_STREAM);
      const timer = setInterval(() => connection.write(data(1, Buffer.alloc(1_000))), 20);
      await eventually('the reset', () => connection.reset(1) === 0);
      clearInterval(timer);
      connection.destroy();
    }));

  test('a flood of different ones', () =>
    failing(attacked, FLOOD, async () => {
      await Promise.all(Array.from({ length: SESSIONS }, async () => {
        const connection = await h2(attacked.program.grpcPort);
        await connection.write(SETTINGS_ACK);
        const answers = () => connection.frames().filter(({ type }) => type === TYPE.headers).length;
        for (let sent = 0; sent < FLOOD / SESSIONS; ) {
          const calls = Array.from({ length: CALLS_AT_ONCE }, () =>
            headers(1 + 2 * sent++, [...CALL, bearer(newToken())], END_HEADERS | END_STREAM),
          );
          await connection.write(Buffer.concat(calls));
          await eventually(`${sent} answers`, () => answers() === sent);
        }
        connection.destroy();
      }));
    }));
});
