/**
 * Goal: any request that OTLP allows, in any of the forms that protobuf allows for it, becomes the rows that
 * an independent decoder sees in it, whatever stood in the block before; both engines write the same bytes.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { encode, fullChaos } from '../oracle/encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { requestOf } from '../oracle/samples.ts';
import { type Engines, enginesProblem, openAllSignals } from '../support/otlp.ts';

/**
 * fast-check prints the seed with the path to the failing case; it makes that smaller for a while, not
 * for ever.
 */
const PARAMETERS = { seed: 20_261_120, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true };
const RUNS = 150;

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

describe.each(SIGNALS)('%s', (signal) => {
  test('written plainly', () => {
    fc.assert(fc.property(requestArbitrary(signal), (request) => {
      const bytes = encode(REQUESTS[signal], request);
      expect(enginesProblem(signal, engines[signal], [bytes])).toBeUndefined();
    }), { ...PARAMETERS, numRuns: RUNS });
  });

  test('written in any order, in pieces, overwritten, with unknown fields', () => {
    fc.assert(fc.property(requestArbitrary(signal), fc.nat(), (request, chaosSeed) => {
      const bytes = encode(REQUESTS[signal], request, fullChaos(seededRandom(chaosSeed)));
      expect(enginesProblem(signal, engines[signal], [bytes])).toBeUndefined();
    }), { ...PARAMETERS, numRuns: RUNS });
  });

  test('several requests in one block', () => {
    const requests = fc.array(fc.tuple(requestArbitrary(signal), fc.nat()), { minLength: 2, maxLength: 5 });
    fc.assert(fc.property(requests, (some) => {
      const bodies = some.map(([request, chaosSeed]) => {
        const chaos = chaosSeed % 2 === 0 ? undefined : fullChaos(seededRandom(chaosSeed));
        return encode(REQUESTS[signal], request, chaos);
      });
      expect(enginesProblem(signal, engines[signal], bodies)).toBeUndefined();
    }), { ...PARAMETERS, numRuns: RUNS / 3 });
  });
});

describe('sizes at which something changes inside', () => {
  const ids = { traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 1) };
  type Text = string | Uint8Array;
  const attributesOf = (texts: readonly Text[]) =>
    texts.map((key, index) => ({ key, value: { intValue: index } }));

  test.each([1, 255, 256, 257, 65_535, 65_536, 65_537])('dictionaries of %i keys', (count) => {
    const names = Array.from({ length: count }, (_, index) => `name ${index}`);
    const spans = names.map((name) => ({ ...ids, name }));
    const attributes = attributesOf(names);
    const request = encode(REQUESTS.traces, requestOf('traces', [ids], { resource: { attributes } }));
    const other = encode(REQUESTS.traces, requestOf('traces', [{ ...ids, attributes }, ...spans]));
    expect(enginesProblem('traces', engines.traces, [request, other, request])).toBeUndefined();
  });

  /** Keys that begin alike, repeat, or are the beginning of another. */
  const keys = fc.array(fc.oneof(
    fc.constantFrom('', 'a', 'aa', 'a\0', 'a.b', 'service.name'),
    fc.constantFrom('k'.repeat(40), `${'k'.repeat(40)}1`, `${'k'.repeat(39)}1`),
    fc.string({ unit: 'binary', maxLength: 12 }), fc.uint8Array({ maxLength: 12 }),
  ), { maxLength: 200 });

  test("a point's attributes and a map's members in order, whatever the keys", () => {
    fc.assert(fc.property(keys, (some) => {
      const attributes = attributesOf(some);
      const point = { attributes, exemplars: [{ filteredAttributes: attributes }] };
      const metrics = [{ gauge: { dataPoints: [point] } }];
      const request = encode(REQUESTS.metrics, requestOf('metrics', metrics));
      expect(enginesProblem('metrics', engines.metrics, [request])).toBeUndefined();
      const logRecords = [{ body: { kvlistValue: { values: attributes } }, attributes }];
      const logs = encode(REQUESTS.logs, requestOf('logs', logRecords));
      expect(enginesProblem('logs', engines.logs, [logs])).toBeUndefined();
    }), { ...PARAMETERS, numRuns: RUNS });
  });
});
