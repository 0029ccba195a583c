/**
 * Goal: every recorded request of a real SDK or collector, and every hand-made one, becomes exactly the rows
 * that an independent decoder sees in it: value by value, with both engines, alone and together with others
 * in one block.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { jsonToProtobuf } from '../../src/transcode/json.ts';
import { outcomeDifference, tablesDifference } from '../oracle/compare.ts';
import { DecodeError } from '../oracle/decode.ts';
import { decodeJson } from '../oracle/json.ts';
import { expectedRows } from '../oracle/rows.ts';
import {
  bodyOf, ENGINES, type Engines, enginesProblem, isJson, judge, NESTING_MAX, openAllSignals, readVectors,
  rowsOf, transcode, trialProblem, type Vector,
} from '../support/otlp.ts';

/** What only an inflater can refuse (test/compress), or says nothing about the message. */
const NOT_A_MESSAGE = /^(ce-snappy|ce-unknown|ce-gzip-trailing|ce-gzip-badcrc|ce-zstd-not|bomb-gzip-.*)$/;
const vectors = readVectors().filter(({ id }) => !NOT_A_MESSAGE.test(id));
const protobuf = vectors.filter((vector) => !isJson(vector));
const json = vectors.filter(isJson);

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

function recordsIn({ items = {} }: Vector): number {
  return Object.values(items).reduce((sum, count) => sum + count, 0);
}

describe('protobuf', () => {
  test.each(protobuf)('$id', (vector) => {
    const body = bodyOf(vector);
    expect(enginesProblem(vector.signal, engines[vector.signal], [body])).toBeUndefined();
    const expected = judge(vector.signal, body);
    const mayBeStored = vector.outcomes.includes('accept') || vector.outcomes.includes('partial');
    if (expected instanceof DecodeError) return expect(vector.outcomes).toContain('bad');
    expect(mayBeStored).toBe(true);
    if (vector.items === undefined) return;
    const withoutData = expected.warnings.get('metric_without_data') ?? 0;
    expect(expected.accepted + expected.rejected.length + withoutData).toBe(recordsIn(vector));
  });

  test.each(SIGNALS)('all %s together in one block, malformed ones between', (signal) => {
    const some = protobuf.filter(({ id }) => id !== 'amplify-empty-spans');
    const bodies = some.filter((vector) => vector.signal === signal).map(bodyOf);
    expect(enginesProblem(signal, engines[signal], bodies)).toBeUndefined();
  });

  test.each(ENGINES)('%s: a block begun after a large one is as small as the first was', (engine) => {
    const small = protobuf.filter(({ id }) => id === 'time-ns-precision').map(bodyOf);
    const large = protobuf.filter(({ id }) => id === 'huge-attr-1mib' || id === 'many-spans-10k').map(bodyOf);
    const blocks = engines.traces[engine];
    const first = transcode(blocks, small);
    expect(trialProblem('traces', large, transcode(blocks, large))).toBeUndefined();
    expect(transcode(blocks, small)).toEqual(first);
    expect(blocks.rows).toBe(0);
  });
});

describe('JSON', () => {
  const stored = json.filter(({ outcomes }) => !outcomes.includes('bad'));
  const refused = json.filter(({ outcomes }) => outcomes.every((outcome) => outcome === 'bad'));
  const either = json.filter((vector) => !stored.includes(vector) && !refused.includes(vector));

  test.each(stored)('$id', (vector) => {
    const body = bodyOf(vector);
    const { signal } = vector;
    const expected = expectedRows(signal, decodeJson(REQUESTS[signal], body), NESTING_MAX);
    for (const engine of ENGINES) {
      const trial = transcode(engines[signal][engine], [jsonToProtobuf(signal, body, NESTING_MAX)]);
      const [outcome] = trial.outcomes;
      if (outcome === undefined || outcome instanceof Malformed) throw new Error(`${engine}: ${outcome}`);
      expect(outcomeDifference(expected, outcome)).toBeUndefined();
      expect(tablesDifference(expected.rows, rowsOf(trial.blocks))).toBeUndefined();
    }
  });

  test.each(refused)('$id is refused', (vector) => {
    expect(() => jsonToProtobuf(vector.signal, bodyOf(vector), NESTING_MAX)).toThrow(Malformed);
  });

  test.each(either)('$id is refused, or taken without harm', (vector) => {
    let protobufBytes: Uint8Array;
    try {
      protobufBytes = jsonToProtobuf(vector.signal, bodyOf(vector), NESTING_MAX);
    } catch (error) {
      return expect(error).toBeInstanceOf(Malformed);
    }
    expect(enginesProblem(vector.signal, engines[vector.signal], [protobufBytes])).toBeUndefined();
  });
});
