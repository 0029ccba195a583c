/**
 * Goal: kill -9 of the whole program under load, restart on the same data, and every request that was acknowledged is
 * in ClickHouse once. Requests that were not acknowledged may be there or not, but never twice.
 */
import { expect, test } from 'vitest';
import { environmentFor, PATIENCE_MS, type Program, start } from '../support/program.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';
import { tracesRequest } from '../support/requests.ts';

const SPANS = 20;
const CLIENTS = 8;

/** Sends until the program is gone; the numbers of the requests that were acknowledged. */
async function sendUntilGone(program: Program, numberFrom: number): Promise<number[]> {
  const acknowledged: number[] = [];
  let next = numberFrom;
  const client = async () => {
    for (;;) {
      const number = next++;
      try {
        const answer = await fetch(`${program.http}/v1/traces`, {
          method: 'POST',
          headers: { 'content-type': 'application/x-protobuf' },
          body: tracesRequest(SPANS, number),
        });
        if (answer.status === 200) acknowledged.push(number);
      } catch (error) {
        if (error instanceof TypeError) return;
        throw error;
      }
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, client));
  await eventually('some load', () => acknowledged.length > 400, PATIENCE_MS);
  process.kill(program.pid, 'SIGKILL');
  await program.ended;
  await clients;
  return acknowledged;
}

test('three times kill -9 under load, nothing acknowledged is lost or doubled', {
  timeout: 300_000,
}, async () => {
  const dataDir = makeTempDir();
  try {
    const environment = await environmentFor(dataDir);
    const acknowledged: number[] = [];
    for (let round = 0; round < 3; round++) {
      const program = await start('up', environment);
      acknowledged.push(...(await sendUntilGone(program, round * 1_000_000)));
    }
    const last = await start('up', environment);
    try {
      const wanted = acknowledged.length * SPANS;
      await eventually(
        'everything acknowledged',
        async () => {
          const rows = await last.rows<{ n: number }>('SELECT uniqExact(SpanId) AS n FROM otel.otel_traces');
          return (
            (rows[0]?.n ?? 0) >= wanted && (await last.metric('queue_items', { signal: 'traces' })) === 0
          );
        },
        PATIENCE_MS,
      );
      const requests = await last.rows<{ request: number; rows: number; spans: number }>(
        `SELECT reinterpretAsUInt32(reverse(unhex(substring(SpanId, 1, 8)))) - 1 AS request,
           count() AS rows, uniqExact(SpanId) AS spans FROM otel.otel_traces GROUP BY request`,
      );
      const found = new Map(requests.map((row) => [row.request, row]));
      const missing = acknowledged.filter((number) => found.get(number)?.spans !== SPANS);
      const doubled = requests.filter((row) => row.rows !== row.spans);
      expect({ missing, doubled }).toEqual({ missing: [], doubled: [] });
      // Accounting agrees with the table: what was accepted is written, nothing waits.
      const [total] = await last.rows<{ n: number }>('SELECT count() AS n FROM otel.otel_traces');
      expect(total?.n).toBe(requests.reduce((sum, row) => sum + row.rows, 0));
    } finally {
      await last.end();
    }
  } finally {
    removeTempDir(dataDir);
  }
});
