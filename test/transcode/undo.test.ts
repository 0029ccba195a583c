/**
 * Goal: what is taken back was never there: the blocks go on with the same bytes, rows and sizes, whatever
 * was appended and wherever its rows went. Only the last append can be taken back, once, and only at once.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { createOpenBlocks } from '../../src/transcode/open-blocks.ts';
import { requestArbitrary } from '../oracle/arbitrary.ts';
import { encode } from '../oracle/encode.ts';
import { SAMPLES } from '../oracle/samples.ts';
import {
  blocksDifference, ENGINES, type Engines, NESTING_MAX, openAllSignals, transcode,
} from '../support/otlp.ts';

const SEED = 20_261_128;

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

describe.each(SIGNALS)('%s', (signal) => {
  const good = encode(REQUESTS[signal], SAMPLES[signal]);

  test('any request, taken back once or again and again', async () => {
    const sharded = {
      plain: await createOpenBlocks(signal, 'plain', { nestingMax: NESTING_MAX }),
      wasm: await createOpenBlocks(signal, 'wasm', { nestingMax: NESTING_MAX }),
    };
    for (const engine of ENGINES) sharded[engine].route([3, 1, 2]);
    fc.assert(fc.property(requestArbitrary(signal), fc.boolean(), (request, first) => {
      const bytes = encode(REQUESTS[signal], request);
      for (const blocks of [engines[signal], sharded].flatMap((both) => [both.plain, both.wasm])) {
        const without = transcode(blocks, [good, bytes, good]).blocks;
        if (!first) blocks.append(good);
        for (let times = 0; times < 3; times++) {
          const before = [blocks.rows, blocks.bytes];
          blocks.append(bytes);
          blocks.undo();
          expect([blocks.rows, blocks.bytes]).toEqual(before);
        }
        if (first) blocks.append(good);
        blocks.append(bytes);
        blocks.append(good);
        const [rows, size] = [blocks.rows, blocks.bytes];
        expect(blocksDifference(without, blocks.close())).toBeUndefined();
        for (const one of [good, bytes, good]) blocks.append(one);
        expect([blocks.rows, blocks.bytes]).toEqual([rows, size]);
        expect([blocks.close().length, blocks.rows, blocks.bytes]).toEqual([without.length, 0, 0]);
      }
    }), { seed: SEED, numRuns: 60, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true });
  });

  test('blocks in which nothing is left have nothing to close', () => {
    for (const engine of ENGINES) {
      const blocks = engines[signal][engine];
      blocks.append(good, 'team-a');
      blocks.undo();
      expect([blocks.rows, blocks.bytes]).toEqual([0, 0]);
      expect(blocks.close()).toEqual([]);
    }
  });

  test.each(ENGINES)('%s: only the last append, once, and at once', (engine) => {
    const blocks = engines[signal][engine];
    const refuses = () => expect(() => blocks.undo()).toThrow('nothing to be taken back');
    blocks.close();
    refuses();
    blocks.append(good);
    blocks.append(good);
    const rows = blocks.rows;
    blocks.undo();
    expect(blocks.rows).toBe(rows / 2);
    refuses();
    expect(() => blocks.append(Buffer.from([0x0a, 0x05]))).toThrow(Malformed);
    refuses();
    blocks.append(good);
    blocks.route([1]);
    refuses();
    blocks.append(good);
    blocks.close();
    refuses();
  });
});
