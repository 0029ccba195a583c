/**
 * Goal: whoever sends is one tenant or nobody, over both transports: tokens can be exchanged while data flows, without
 * a request lost or refused, and a token that was taken away is worth nothing from the next look at the file on.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { hashToken, newToken } from '../../src/admit/tokens.ts';
import { type Answer, GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';
import { TRANSPORTS, type Transport } from './support.ts';

const [OLD, NEW, BANK] = [newToken(), newToken(), newToken()];
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

let dir = '';
let program: Program;
let grpc: GrpcClient;
let next = 0;
/** Spans, each the only one of its request. */
let acknowledged = 0;

/** The list of tenants as a whole, as a Secret is exchanged. */
function writeTenants(...shopTokens: string[]): void {
  const list = [
    { name: 'shop', tokens: shopTokens.map(hashToken) },
    { name: 'bank', tokens: [hashToken(BANK)] },
    { name: 'open' },
  ];
  writeFileSync(join(dir, 'next'), JSON.stringify(list));
  renameSync(join(dir, 'next'), join(dir, 'tenants'));
}

async function send(transport: Transport, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const body = tracesRequest(1, next++);
  const isGrpc = transport === 'grpc';
  const answer = await (isGrpc
    ? grpc.send('traces', body, headers)
    : sendHttp(program.http, 'traces', body, { headers }));
  if (answer.kind === 'accept') acknowledged += 1;
  return answer;
}

beforeAll(async () => {
  dir = makeTempDir();
  writeTenants(OLD);
  const environment = await environmentFor(dir, {
    SLUICE_TENANTS_FILE: join(dir, 'tenants'),
    SLUICE_TENANTS_ANONYMOUS: 'refuse',
    SLUICE_TENANTS_HEADER: 'x-tenant',
    SLUICE_CONFIG_POLL_MS: '50',
    SLUICE_BATCH_AGE_MS_MAX: '50',
    SLUICE_LOG_LEVEL: 'debug',
    SLUICE_LOG_FORMAT: 'json',
  });
  program = await start('up', environment);
  grpc = new GrpcClient(program.grpcPort);
});
afterAll(async () => {
  grpc?.close();
  await program?.end();
  removeTempDir(dir);
});

describe.each(TRANSPORTS)('%s', (transport) => {
  test.each<[string, Record<string, string>, string]>([
    ['a token', bearer(BANK), 'accept'],
    ['an API key', { 'x-api-key': BANK }, 'accept'],
    ['a token and its name', { ...bearer(BANK), 'x-tenant': 'bank' }, 'accept'],
    ['the name of a tenant without tokens', { 'x-tenant': 'open' }, 'accept'],
    ['nothing', {}, 'unauthenticated'],
    ['an unknown token', bearer(newToken()), 'unauthenticated'],
    ['another scheme', { authorization: 'Basic YTpi' }, 'unauthenticated'],
    ["another tenant's name", { ...bearer(BANK), 'x-tenant': 'shop' }, 'forbidden'],
    ['two tokens of two tenants', { ...bearer(BANK), 'x-api-key': OLD }, 'forbidden'],
    ['a name alone', { 'x-tenant': 'bank' }, 'forbidden'],
    ['an unknown name', { 'x-tenant': 'nobody' }, 'forbidden'],
  ])('%s', async (_, headers, kind) => {
    const refused = kind === 'accept' ? 0 : 1;
    const [failures, requests] = [await failed(), await counted(kind)];
    const answer = await send(transport, headers);
    expect(answer.kind).toBe(kind);
    for (const token of [OLD, BANK]) expect(answer.message).not.toContain(token);
    await eventually('the counters', async () => {
      return (await failed()) === failures + refused && (await counted(kind)) === requests + refused;
    });
  });
});

test('what each tenant has sent is counted as its own', async () => {
  const labels = { tenant: 'bank', signal: 'traces' };
  const before = await program.metric('tenant_items_accepted_total', labels);
  await send('http', bearer(BANK));
  await eventually('one more', async () => {
    return (await program.metric('tenant_items_accepted_total', labels)) === before + 1;
  });
});

test('a rotation while data flows', async () => {
  let token = OLD;
  let stopping = false;
  const answered = { http: 0, grpc: 0 };
  const client = async (transport: Transport) => {
    while (!stopping) {
      const { kind, message } = await send(transport, bearer(token));
      expect([kind, message]).toEqual(['accept', '']);
      answered[transport] += 1;
    }
  };
  const over = Promise.all(TRANSPORTS.map(client));
  const applied = (count: number) =>
    eventually(`reload ${count}`, async () => {
      return (await program.metric('config_reloads_total', { outcome: 'applied' })) === count;
    });
  try {
    writeTenants(OLD, NEW);
    await applied(1);
    for (const transport of TRANSPORTS) {
      for (const valid of [OLD, NEW]) expect((await send(transport, bearer(valid))).kind).toBe('accept');
    }
    token = NEW;
    // What each of them had sent with the old one is answered by then.
    const before = { ...answered };
    const goesOn = (transport: Transport) => answered[transport] > before[transport] + 5;
    await eventually('requests with the new one', () => TRANSPORTS.every(goesOn));
    writeTenants(NEW);
    await applied(2);
    for (const transport of TRANSPORTS) {
      expect((await send(transport, bearer(OLD))).kind).toBe('unauthenticated');
      expect((await send(transport, bearer(NEW))).kind).toBe('accept');
    }
  } finally {
    stopping = true;
    await over;
  }
  await eventually('every acknowledged span', async () => (await stored()) === acknowledged, 60_000);
});

test('a list that is wrong is refused, and the one before it stays', async () => {
  const hash = hashToken(NEW);
  writeFileSync(join(dir, 'tenants'), JSON.stringify([{ name: 'a', tokens: [hash] }, { name: 'b', tokens: [hash] }]));
  await eventually('the refusal', async () => (await program.metric('config_valid')) === 0);
  expect((await send('http', bearer(NEW))).kind).toBe('accept');
  writeTenants(NEW);
  await eventually('the mended list', async () => (await program.metric('config_valid')) === 1);
});

test('no token and no hash is in logs or metrics', async () => {
  const metrics = await (await fetch(`${program.admin}/metrics`)).text();
  for (const text of [metrics, program.stdout(), program.stderr()]) {
    for (const token of [OLD, NEW, BANK]) {
      expect(text).not.toContain(token);
      expect(text).not.toContain(hashToken(token).slice('sha256:'.length));
    }
  }
});

const failed = () => program.metric('auth_failures_total');
const counted = (reason: string) => program.metric('requests_refused_total', { reason });

async function stored(): Promise<number> {
  const [row] = await program.rows<{ n: number }>('SELECT count() AS n FROM otel.otel_traces');
  return row?.n ?? 0;
}
