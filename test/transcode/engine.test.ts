/**
 * Goal: the engines as their host sees them. Several open blocks live in one process without touching each
 * other, texts of numbers are right in both, memory is bounded and given back, and what a hostile sender may
 * try with repetition and pieces ends in a refusal or in rows, soon.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Fault } from '../../src/base/errors.ts';
import { Malformed, type OpenBlocks } from '../../src/model/block.ts';
import { FORMAT_REASONS, WARNINGS } from '../../src/model/outcome.ts';
import { SIGNALS } from '../../src/model/signal.ts';
import {
  COUNTERS, COUNT_LOG_TRACE_ID_DROPPED, COUNT_METRIC_WITHOUT_DATA, NESTING_TOO_DEEP,
} from '../../src/transcode/codes.ts';
import { loadEngine } from '../../src/transcode/engine.ts';
import { createOpenBlocks } from '../../src/transcode/open-blocks.ts';
import { encode, type PlainMessage } from '../oracle/encode.ts';
import { decodeNative } from '../oracle/native.ts';
import { seededRandom } from '../oracle/random.ts';
import { SAMPLES } from '../oracle/samples.ts';
import { blocksDifference, ENGINES, NESTING_MAX, openEngines, rowsOf, transcode } from '../support/otlp.ts';

const LIMITS = { nestingMax: NESTING_MAX };

beforeAll(async () => {
  await openEngines('traces');
});

function logs(records: readonly PlainMessage[], resource: PlainMessage = {}): Uint8Array {
  return encode(REQUESTS.logs, { resourceLogs: [{ resource, scopeLogs: [{ logRecords: records }] }] });
}

function bodiesOf(blocks: OpenBlocks, bodies: readonly PlainMessage[]): unknown[] {
  const { blocks: [block] } = transcode(blocks, [logs(bodies.map((body) => ({ body })))]);
  return (decodeNative(block?.bytes ?? new Uint8Array())[0]?.rows ?? []).map((row) => row['Body']);
}

describe('codes', () => {
  test('the counters are the accepted ones, then every reason, then every warning', () => {
    expect(COUNTERS).toBe(1 + FORMAT_REASONS.length + WARNINGS.length);
    expect(FORMAT_REASONS[NESTING_TOO_DEEP - 1]).toBe('nesting_too_deep');
    expect(WARNINGS[COUNT_LOG_TRACE_ID_DROPPED - 1 - FORMAT_REASONS.length]).toBe('log_trace_id_dropped');
    expect(WARNINGS[COUNT_METRIC_WITHOUT_DATA - 1 - FORMAT_REASONS.length]).toBe('metric_without_data');
  });

  test('a wasm module that was not built is a fault that says how to build it', async () => {
    const missing = loadEngine('wasm', new URL('file:///nowhere/transcode.wasm'));
    await expect(missing).rejects.toThrow(Fault);
    await expect(missing).rejects.toThrow("'npm run build'");
  });
});

describe.each(ENGINES)('%s', (engine) => {
  test('open blocks of all signals, two of each, filled in turn', async () => {
    const opened = [];
    for (const signal of [...SIGNALS, ...SIGNALS]) {
      const blocks = await createOpenBlocks(signal, engine, LIMITS);
      const sample = encode(REQUESTS[signal], SAMPLES[signal]);
      opened.push({ blocks, sample, alone: transcode(blocks, [sample, sample]).blocks });
    }
    for (let round = 0; round < 2; round++) for (const { blocks, sample } of opened) blocks.append(sample);
    for (const { blocks, alone } of opened) {
      expect(blocks.rows).toBe(alone.reduce((sum, block) => sum + block.rows, 0));
      expect(blocksDifference(alone, blocks.close())).toBeUndefined();
      expect(blocks.rows).toBe(0);
    }
  });

  test('the estimate of the size is never far below the size', async () => {
    for (const signal of SIGNALS) {
      const blocks = await createOpenBlocks(signal, engine, LIMITS);
      expect(blocks.bytes).toBe(0);
      const sample = encode(REQUESTS[signal], SAMPLES[signal]);
      for (let i = 0; i < 100; i++) blocks.append(sample);
      const estimate = blocks.bytes;
      const size = blocks.close().reduce((sum, block) => sum + block.bytes.length, 0);
      expect(estimate).toBeGreaterThan(size * 0.7);
      expect(estimate).toBeLessThan(size * 1.5);
    }
  });

  test('doubles read back, in the shortest form', async () => {
    const blocks = await createOpenBlocks('logs', engine, LIMITS);
    const random = seededRandom(31);
    const doubles = [0, -0, 1e-6, 9.99999e-7, 123456789.123456, 1e15 + 0.5, 1e21, 5e-324, 0.1 + 0.2];
    for (let i = 0; i < 20_000; i++) {
      const digits = random.int(10 ** (1 + random.int(9))) * (random.chance(0.5) ? 1 : -1);
      doubles.push(digits / 10 ** random.int(17), digits * 10 ** (random.int(300) - 150) * Math.SQRT2);
    }
    const texts = bodiesOf(blocks, doubles.map((doubleValue) => ({ doubleValue })));
    expect(texts).toEqual(doubles.map((value) => (Object.is(value, -0) ? '-0' : String(value))));
  });

  test('integers have all their digits', async () => {
    const blocks = await createOpenBlocks('logs', engine, LIMITS);
    const powers = (base: bigint, count: number) =>
      Array.from({ length: count }, (_, i) => base ** BigInt(i));
    const edges = [...powers(2n, 64), ...powers(10n, 19)].flatMap((n) => [n - 1n, n, 1n - n, -n]);
    const integers = edges.map((n) => BigInt.asIntN(64, n));
    expect(bodiesOf(blocks, integers.map((intValue) => ({ intValue })))).toEqual(integers.map(String));
  });

  test('a million empty resources are nothing, and cost little', async () => {
    const blocks = await createOpenBlocks('traces', engine, LIMITS);
    const request = Buffer.alloc(2_000_000);
    for (let at = 0; at < request.length; at += 2) request[at] = 0x0a;
    expect(blocks.append(request)).toMatchObject({ accepted: 0, rejected: 0 });
    expect(blocks.close()).toEqual([]);
  });

  test('a resource that its records would repeat beyond all measure is refused', async () => {
    const blocks = await createOpenBlocks('logs', engine, LIMITS);
    const resource = { attributes: [{ key: 'large', value: { stringValue: 'x'.repeat(1_000_000) } }] };
    const few = logs(Array.from({ length: 3 }, () => ({})), resource);
    const many = logs(Array.from({ length: 1_000 }, () => ({})), resource);
    blocks.append(few);
    expect(() => blocks.append(many)).toThrow(Malformed);
    expect(blocks.rows).toBe(3);
    const [block] = blocks.close();
    expect(block?.bytes.length).toBeGreaterThan(3_000_000);
  });

  test('a submessage in very many pieces, each level of it, is refused', async () => {
    const blocks = await createOpenBlocks('logs', engine, LIMITS);
    // A body whose every level is an array in two pieces, the first with the next level, the second empty.
    let value: Uint8Array = Buffer.alloc(200_000, 'x');
    value = encode('AnyValue', { stringValue: value });
    for (let level = 0; level < 30; level++) {
      const array = encode('AnyValue', { arrayValue: { values: [value] } });
      value = Buffer.concat([array, Buffer.from([0x2a, 0x00])]);
    }
    expect(() => blocks.append(logs([{ body: value }]))).toThrow(/too many pieces/);
    expect(blocks.append(logs([{ body: { stringValue: 'fine' } }]))).toMatchObject({ accepted: 1 });
  });
});

test('wasm: after an unusual request the memory is given back, and its blocks stay readable', async () => {
  const blocks = await createOpenBlocks('logs', 'wasm', LIMITS);
  const huge = logs([{ body: { stringValue: 'y'.repeat(40_000_000) } }]);
  blocks.append(huge);
  const first = blocks.close();
  const memoryBefore = first[0]?.bytes.buffer.byteLength ?? 0;
  blocks.append(logs([{ body: { stringValue: 'small' } }]));
  const second = blocks.close();
  expect(memoryBefore).toBeGreaterThan(100_000_000);
  expect(second[0]?.bytes.buffer.byteLength).toBeLessThan(10_000_000);
  expect(rowsOf(second).get('otel_logs')?.[0]?.['Body']).toBe('small');
  expect(first[0]?.bytes.length).toBeGreaterThan(40_000_000);
});
