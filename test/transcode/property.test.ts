/**
 * Goal: any request that OTLP allows, in any of the forms that protobuf allows for it, becomes the rows that an
 * independent decoder sees in it, whatever stood in the block before; both engines write the same bytes.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { encode, fullChaos } from '../oracle/encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { type Engines, enginesProblem, openAllSignals } from '../support/otlp.ts';

/** fast-check prints it with the path to the failing case. */
const SEED = 20_261_120;
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
    }), { seed: SEED, numRuns: RUNS });
  });

  test('written in any order, in pieces, overwritten, with unknown fields', () => {
    fc.assert(fc.property(requestArbitrary(signal), fc.nat(), (request, chaosSeed) => {
      const bytes = encode(REQUESTS[signal], request, fullChaos(seededRandom(chaosSeed)));
      expect(enginesProblem(signal, engines[signal], [bytes])).toBeUndefined();
    }), { seed: SEED, numRuns: RUNS });
  });

  test('several requests in one block', () => {
    const requests = fc.array(fc.tuple(requestArbitrary(signal), fc.nat()), { minLength: 2, maxLength: 5 });
    fc.assert(fc.property(requests, (some) => {
      const bodies = some.map(([request, chaosSeed]) => {
        return encode(REQUESTS[signal], request, chaosSeed % 2 === 0 ? undefined : fullChaos(seededRandom(chaosSeed)));
      });
      expect(enginesProblem(signal, engines[signal], bodies)).toBeUndefined();
    }), { seed: SEED, numRuns: RUNS / 3 });
  });
});
