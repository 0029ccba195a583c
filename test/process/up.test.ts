/**
 * Goal: `sluice up` as its user sees it: one line when it can take data, rows a moment later, the same data after a
 * restart, a second instance refused, and a drain that loses nothing.
 */
import { describe, expect, test, vi } from 'vitest';
import { environmentFor, run, start, withUp } from '../support/program.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';
import { tracesRequest } from '../support/requests.ts';

const PROTOBUF = { 'content-type': 'application/x-protobuf' };
/** A test starts one or two programs with all that they need, in a second or two on a quiet machine. */
vi.setConfig({ testTimeout: 180_000 });

describe('sluice up', () => {
  test('takes data, shows it within seconds, tells the same in /metrics, and stops with 0', async () => {
    await withUp(async (program) => {
      expect(program.stdout()).toBe(
        `sluice ready: OTLP gRPC 127.0.0.1:${program.grpcPort}, OTLP HTTP 127.0.0.1:${program.httpPort}, admin ${program.admin}\n`,
      );
      const body = tracesRequest(5);
      const answer = await fetch(`${program.http}/v1/traces`, { method: 'POST', headers: PROTOBUF, body });
      expect(answer.status).toBe(200);
      expect((await answer.arrayBuffer()).byteLength).toBe(0);
      await eventually('5 rows', async () => {
        const [row] = await program.rows<{ n: number }>('SELECT count() AS n FROM otel.otel_traces');
        return row?.n === 5;
      });
      expect(await program.metric('items_accepted_total', { signal: 'traces' })).toBe(5);
      const labels = { signal: 'traces', transport: 'http' };
      expect(await program.metric('request_bytes_total', labels)).toBe(body.length);
      await eventually(
        'the count of written items',
        async () => (await program.metric('items_written_total', { signal: 'traces' })) === 5,
      );
      await eventually(
        'an empty queue',
        async () => (await program.metric('queue_items', { signal: 'traces' })) === 0,
      );
      for (const path of ['health', 'ready', 'startup']) {
        expect((await fetch(`${program.admin}/${path}`)).status, path).toBe(200);
      }
      expect(await program.end('SIGTERM')).toEqual({ code: 0, signal: null });
    });
  });

  test('SIGINT right after acknowledgements: all of it is there after the next start', async () => {
    const dataDir = makeTempDir();
    try {
      const environment = await environmentFor(dataDir);
      const first = await start('up', environment);
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          fetch(`${first.http}/v1/traces`, { method: 'POST', headers: PROTOBUF, body: tracesRequest(10, i) }),
        ),
      );
      expect(answers.every((answer) => answer.status === 200)).toBe(true);
      expect(await first.end('SIGINT')).toEqual({ code: 0, signal: null });
      const second = await start('up', environment);
      try {
        await eventually('500 rows', async () => {
          const [row] = await second.rows<{ n: number }>('SELECT count() AS n FROM otel.otel_traces');
          return row?.n === 500;
        });
      } finally {
        await second.end();
      }
    } finally {
      removeTempDir(dataDir);
    }
  });

  test("a second instance on the same folder is refused, with the first one's pid", async () => {
    await withUp(async (program) => {
      const other = await environmentFor(program.environment.SLUICE_DATA_DIR ?? '');
      const result = await run(['up'], other);
      expect(result.code).toBe(2);
      expect(result.stderr).toContain(String(program.pid));
      expect(result.stderr).toContain('SLUICE_DATA_DIR');
    });
  });
});
