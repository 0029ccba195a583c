/**
 * Goal: a tenant's rate is one for all gateways and transports, who is over it is told so and when to come
 * back, and nobody else notices. What one tenant has sent is nobody else's repetition.
 */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type Answer, GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, freePort, makeTempDir, removeTempDir } from '../support/services.ts';

/** Less than three clients send one after another, also where an answer takes half a second. */
const RATE = 100;
const MODEST_RATE = 200;
const BURST_SECONDS = 2;
const ITEMS = 20;
vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 });
/** Each gateway's lease is about a quarter of a second ahead, and with one item left each client may be let in. */
const SLACK = 2 * (RATE / 4) + 3 * ITEMS;

const dataDir = makeTempDir();
let up: Program;
/** A second gateway on the same Redis. */
let gateway: Program;
let grpc: GrpcClient;
let numbers = 0;

beforeAll(async () => {
  const tenants = [
    { name: 'greedy', itemsPerSecond: RATE, burstSeconds: BURST_SECONDS },
    { name: 'modest', itemsPerSecond: MODEST_RATE, burstSeconds: BURST_SECONDS },
    { name: 'daily', itemsPerDay: 3 * ITEMS },
  ];
  const settings = {
    SLUICE_BATCH_AGE_MS_MAX: '50',
    SLUICE_TENANTS: JSON.stringify(tenants),
    SLUICE_TENANTS_HEADER: 'x-tenant',
  };
  up = await start('up', await environmentFor(dataDir, settings));
  const { SLUICE_EMBEDDED_REDIS_PORT: port, ...environment } = up.environment;
  const addresses: Record<string, string> = {};
  for (const name of ['GRPC', 'HTTP', 'ADMIN'])
    addresses[`SLUICE_${name}_ADDR`] = `127.0.0.1:${await freePort()}`;
  gateway = await start('gateway', {
    ...environment,
    ...addresses,
    SLUICE_REDIS_URL: `redis://127.0.0.1:${port}/0`,
  });
  grpc = new GrpcClient(gateway.grpcPort);
});

afterAll(async () => {
  grpc?.close();
  await gateway?.end();
  await up?.end();
  removeTempDir(dataDir);
});

const asTenant = (tenant: string) => ({ headers: { 'x-tenant': tenant } });
const fresh = () => tracesRequest(ITEMS, numbers++);
const ways = (tenant: string): (() => Promise<Answer>)[] => [
  () => sendHttp(up.http, 'traces', fresh(), asTenant(tenant)),
  () => sendHttp(gateway.http, 'traces', fresh(), asTenant(tenant)),
  () => grpc.send('traces', fresh(), { 'x-tenant': tenant }),
];

async function sum(name: string, labels: Readonly<Record<string, string>>): Promise<number> {
  const values = await Promise.all([up, gateway].map((of) => of.metric(name, labels)));
  return values.reduce((total, value) => total + value, 0);
}

test('over all gateways a tenant gets its rate and its burst, and another one all it asks for', async () => {
  const startedMs = performance.now();
  let over = false;
  const greedy: Answer[] = [];
  const flood = ways('greedy').map(async (send) => {
    while (!over) greedy.push(await send());
  });
  const refusals = () => greedy.filter(({ kind }) => kind !== 'accept');
  const codes = () => new Set(refusals().map(({ code }) => code));
  const modest: Answer[] = [];
  // Half of its rate.
  for (let n = 0; n < 12; n++) {
    for (const send of ways('modest').slice(n % 3, (n % 3) + 1)) modest.push(await send());
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  await eventually('a refusal over each transport', () => codes().size > 1, 60_000);
  over = true;
  await Promise.all(flood);
  const seconds = (performance.now() - startedMs) / 1000;
  expect(modest.map(({ kind }) => kind)).toEqual(modest.map(() => 'accept'));
  const accepted = greedy.filter(({ kind }) => kind === 'accept').length * ITEMS;
  const refused = refusals();
  expect(accepted).toBeLessThanOrEqual(RATE * (seconds + BURST_SECONDS) + SLACK);
  expect(accepted).toBeGreaterThanOrEqual(RATE * BURST_SECONDS - SLACK);
  expect(codes()).toEqual(new Set([429, 8]));
  for (const { message } of refused) expect(message).toMatch(/tenant greedy .*100.*itemsPerSecond/);
  const reason = { tenant: 'greedy', reason: 'tenant_rate' };
  expect(await sum('tenant_requests_refused_total', reason)).toBe(refused.length);
  expect(await sum('tenant_items_accepted_total', { tenant: 'greedy', signal: 'traces' })).toBe(accepted);
});

test('a quota of a day is used up over all gateways', async () => {
  const answers: Answer[] = [];
  await eventually('the quota', async () => {
    for (const send of ways('daily')) answers.push(await send());
    return answers.slice(-3).every(({ kind }) => kind === 'later');
  });
  // What is under way while gateways settle comes on top.
  const taken = answers.filter(({ kind }) => kind === 'accept').length;
  expect(taken).toBeGreaterThanOrEqual(3);
  expect(taken).toBeLessThanOrEqual(9);
  expect(answers.at(-1)?.message).toMatch(/tenant daily has used its 60 items of today/);
});

test('the same bytes of two tenants are two requests', async () => {
  const before = await sum('items_duplicate_total', { signal: 'traces' });
  const body = tracesRequest(3, 1_000_000);
  await eventually('room in its rate', async () => {
    return (await sendHttp(up.http, 'traces', body, asTenant('modest'))).kind === 'accept';
  });
  expect((await sendHttp(gateway.http, 'traces', body, {})).kind).toBe('accept');
  await eventually('room in its rate', async () => {
    return (await sendHttp(gateway.http, 'traces', body, asTenant('modest'))).kind === 'accept';
  });
  expect((await sum('items_duplicate_total', { signal: 'traces' })) - before).toBe(3);
  const spanId = "hex(substring(unhex(SpanId), 1, 4)) = hex(reinterpretAsFixedString(byteSwap(toUInt32(1000001))))";
  await eventually('both', async () => (await up.rows(`SELECT 1 FROM otel.otel_traces WHERE ${spanId}`)).length === 6);
});

test('a tenant that nobody knows is refused for good', async () => {
  const answer = await sendHttp(up.http, 'traces', fresh(), asTenant('nobody'));
  expect(answer).toMatchObject({ kind: 'forbidden', code: 403 });
});
