/**
 * Goal: whatever breaks, an acknowledged record is in ClickHouse exactly once. A short storm over the real
 * program: killed, frozen and drained processes, cut, slow and half-open links, a full Redis, a ClickHouse
 * that refuses, clocks that jump, clients that send again or vanish, and a count of every record.
 * The long form is `make test-chaos ARGS="--help"`; CHAOS_SEED chooses another storm.
 */
import { describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { FRAME_HEAD_BYTES, type Format } from '../../bench/template.ts';
import { SIGNALS } from '../../src/model/signal.ts';
import { decode } from '../oracle/decode.ts';
import { decodeJson } from '../oracle/json.ts';
import { drawPlan, targetsOf } from './storm/plan.ts';
import { encodeRequest, numberOf } from './storm/records.ts';
import { textOf } from './storm/report.ts';
import { runStorm } from './storm/storm.ts';

const SEED = Number(process.env.CHAOS_SEED ?? 1);

describe('the plan', () => {
  const options = { seed: SEED, seconds: 1_200, faults: 1_000, redisLinks: true };

  test('the same seed draws the same faults, another one others', () => {
    expect(drawPlan(options)).toEqual(drawPlan(options));
    expect(drawPlan(options)).not.toEqual(drawPlan({ ...options, seed: SEED + 1 }));
  });

  test('every kind of fault, on every target, in order, and calm in between', () => {
    const plan = drawPlan(options);
    expect(plan).toHaveLength(1_000);
    const targets = new Set(plan.map(({ target }) => target));
    expect([...targets].sort()).toEqual([...new Set(Object.values(targetsOf(true)).flat())].sort());
    expect(new Set(plan.map(({ kind }) => kind)).size).toBe(14);
    for (const [index, { atMs, durationMs }] of plan.entries()) {
      expect(atMs).toBeGreaterThanOrEqual(plan[index - 1]?.atMs ?? 0);
      expect((atMs % 20_000) + durationMs).toBeLessThanOrEqual(16_000);
    }
  });
});

describe('the records', () => {
  const formats: readonly Format[] = ['protobuf', 'json'];
  const cases = SIGNALS.flatMap((signal) =>
    formats.flatMap((format) => [1, 2, 3, 8, 500].map((records) => ({ signal, format, records }))),
  );

  test.each(cases)('$records $signal as $format carry their numbers', ({ signal, format, records }) => {
    const request = 77;
    const contents = { signal, format, request, records, service: 'client-1', seconds: 1_700_000_000 };
    const body = encodeRequest(contents).subarray(FRAME_HEAD_BYTES);
    const read = format === 'json' ? decodeJson : decode;
    const text = JSON.stringify(read(REQUESTS[signal], body), (_, value: unknown) =>
      typeof value === 'bigint' ? String(value) : value,
    );
    for (const record of [0, records - 1]) {
      expect(text).toContain(`"${String(numberOf(request, record)).padStart(13, '0')}"`);
    }
    expect(text.match(/"chaos.number"/g)).toHaveLength(records);
  });
});

test('a storm: nothing acknowledged is lost, nothing is there twice', { timeout: 400_000 }, async () => {
  const report = await runStorm({
    seed: SEED,
    seconds: 40,
    faults: 40,
    records: 60_000,
    clients: 8,
    variant: 'standalone',
    keep: false,
    log: () => undefined,
  });
  expect(report.wrong, textOf(report)).toEqual([]);
  expect(report.faultsDone).toBeGreaterThan(30);
});
