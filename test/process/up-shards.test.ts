/**
 * Goal: `sluice up` with several embedded shards. What was taken by one server is found when it is started
 * again with two and then with three, and new rows go to all of them.
 */
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { type Program, environmentFor, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, freePort, makeTempDir, removeTempDir } from '../support/services.ts';

const SPANS = 50;
/** Of what takes some seconds on a quiet machine: a writer looks for new shards every five. */
const PATIENCE_MS = 60_000;

/** Ports for as many servers, one after another. */
async function portsInARow(count: number): Promise<number> {
  return eventually('free ports in a row', async () => {
    const first = await freePort();
    const next = await Promise.all(Array.from({ length: count - 1 }, (_, i) => isFree(first + 1 + i)));
    return next.every(Boolean) ? first : undefined;
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

async function send(program: Program, number: number): Promise<void> {
  const answer = await fetch(`${program.http}/v1/traces`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-protobuf' },
    body: tracesRequest(SPANS, number),
  });
  expect(answer.status).toBe(200);
}

const count = async (program: Program, from: string) =>
  (await program.rows<{ n: number }>(`SELECT count() AS n FROM ${from}`))[0]?.n ?? 0;

test('one server, then two, then three', { timeout: 300_000 }, async () => {
  const dataDir = makeTempDir();
  try {
    const environment = {
      ...(await environmentFor(dataDir)),
      SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT: `${await portsInARow(3)}`,
      SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT: `${await portsInARow(3)}`,
    };
    let sent = 0;
    for (const shards of [1, 2, 3]) {
      const program = await start('up', { ...environment, SLUICE_EMBEDDED_SHARDS: String(shards) });
      try {
        expect(await count(program, 'otel.otel_traces')).toBe(sent * SPANS);
        // A shard that is new gets rows once the writer has seen it.
        await eventually(`rows on ${shards} shards`, async () => {
          await send(program, sent++);
          const from = shards === 1 ? '(SELECT 1 AS _shard_num, * FROM otel.otel_traces)' : 'otel.otel_traces';
          return (await program.rows(`SELECT DISTINCT _shard_num FROM ${from}`)).length === shards;
        }, PATIENCE_MS);
        const all = async () => (await count(program, 'otel.otel_traces')) === sent * SPANS;
        await eventually('all rows', all, PATIENCE_MS);
      } finally {
        await program.end();
      }
    }
  } finally {
    removeTempDir(dataDir);
  }
});
