/**
 * Goal: whatever bytes come, the transcoder either stores exactly what an independent decoder sees in them,
 * or refuses them with a place inside the request and leaves the open blocks as if they had never come; and
 * it ends soon. Seeds are fixed, and a failure names the bytes.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import { SIGNALS, type Signal } from '../../src/model/signal.ts';
import { encode, fullChaos } from '../oracle/encode.ts';
import { mutate, noise } from '../oracle/mutate.ts';
import { seededRandom } from '../oracle/random.ts';
import { requestOf, SAMPLES } from '../oracle/samples.ts';
import {
  blocksDifference, bodyOf, type Engine, ENGINES, type Engines, enginesProblem, openAllSignals,
  outcomesProblem, readVectors, transcode, type Trial, trialDifference, trialProblem,
} from '../support/otlp.ts';

const SEED = 20_261_122;
const RUNS = 1_500;

let engines: Readonly<Record<Signal, Engines>>;
beforeAll(async () => {
  engines = await openAllSignals();
});

const whole = (signal: Signal) => encode(REQUESTS[signal], SAMPLES[signal]);

/** The good request of each signal, and what two of them become when nothing else comes. */
interface Undisturbed {
  readonly good: Uint8Array;
  readonly blocks: Readonly<Record<Engine, Trial['blocks']>>;
}
const undisturbed = new Map<Signal, Undisturbed>();

function undisturbedOf(signal: Signal): Undisturbed {
  const known = undisturbed.get(signal);
  if (known !== undefined) return known;
  const good = whole(signal);
  const blocksOf = (engine: Engine) => transcode(engines[signal][engine], [good, good]).blocks;
  const made = { good, blocks: { plain: blocksOf('plain'), wasm: blocksOf('wasm') } };
  undisturbed.set(signal, made);
  return made;
}

/** The damaged request between two good ones: what it does to its neighbours is seen too. */
function problemBetween(signal: Signal, damaged: Uint8Array): string | undefined {
  const { good, blocks } = undisturbedOf(signal);
  const requests = [good, damaged, good];
  const trials = ENGINES.map((engine) => [engine, transcode(engines[signal][engine], requests)] as const);
  for (const [engine, trial] of trials) {
    // Identical bytes need no decoding: what they mean is known.
    const refused = trial.outcomes[1] instanceof Malformed;
    const problem = outcomesProblem(signal, requests, trial) ??
      (refused ? blocksDifference(blocks[engine], trial.blocks) : trialProblem(signal, requests, trial));
    if (problem !== undefined) return `${engine}: ${problem}\nof ${Buffer.from(damaged).toString('hex')}`;
  }
  const [[, plain], [, wasm]] = trials as [[Engine, Trial], [Engine, Trial]];
  const difference = trialDifference(plain, wasm);
  return difference && `wasm unlike plain: ${difference}\nof ${Buffer.from(damaged).toString('hex')}`;
}

describe.each(SIGNALS)('%s', (signal) => {
  test('cut at every byte', () => {
    const bytes = whole(signal);
    for (let length = 0; length <= bytes.length; length++) {
      expect(problemBetween(signal, bytes.subarray(0, length)), `cut at ${length}`).toBeUndefined();
    }
  });

  test('a bit flipped in every byte', () => {
    const bytes = whole(signal);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = bytes.slice();
      damaged[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      expect(problemBetween(signal, damaged), `bit of byte ${at}`).toBeUndefined();
    }
  });

  test('damaged at random', () => {
    const random = seededRandom(SEED);
    for (let run = 0; run < RUNS; run++) {
      const chaos = random.chance(0.5) ? fullChaos(random) : undefined;
      const damaged = mutate(encode(REQUESTS[signal], SAMPLES[signal], chaos), random);
      expect(problemBetween(signal, damaged), `seed ${SEED}, run ${run}`).toBeUndefined();
    }
  });

  test('noise', () => {
    const random = seededRandom(SEED);
    for (let run = 0; run < RUNS; run++) {
      expect(problemBetween(signal, noise(random)), `seed ${SEED}, run ${run}`).toBeUndefined();
    }
  });
});

describe('hostile requests end soon, and hurt no neighbour', () => {
  /** A list in a list in a list: written from the inside out, since no recursive encoder goes that deep. */
  function deepList(levels: number): Uint8Array {
    const heads: Uint8Array[] = [];
    let length = 0;
    for (let level = 0; level < 2 * levels; level++) {
      // AnyValue.arrayValue and ArrayValue.values in turn.
      const head = [level % 2 === 0 ? 0x2a : 0x0a];
      let rest = length;
      for (; rest > 127; rest >>>= 7) head.push((rest & 127) | 128);
      heads.push(Uint8Array.from([...head, rest]));
      length += head.length + 1;
    }
    return Buffer.concat(heads.reverse().slice(1));
  }
  const inLog = (body: Uint8Array) =>
    encode(REQUESTS.logs, requestOf('logs', [{ body }]));

  test('a body of 100,000 lists in each other costs its record only', () => {
    const body = deepList(100_000);
    for (const engine of ENGINES) {
      const { outcomes: [outcome], blocks } = transcode(engines.logs[engine], [inLog(body), whole('logs')]);
      const reasons = new Map([['nesting_too_deep', 1]]);
      expect(outcome).toMatchObject({ accepted: 0, rejected: 1, reasons });
      expect(blocks.map(({ rows }) => rows)).toEqual([2]);
    }
  });

  test.each([90, 100_000])('%i unknown groups in each other', (levels) => {
    const groups = Buffer.concat([Buffer.alloc(levels, 0x7b), Buffer.alloc(levels, 0x7c)]);
    const good = whole('logs');
    for (const engine of ENGINES) {
      const { outcomes, blocks } = transcode(engines.logs[engine], [Buffer.concat([groups, good]), good]);
      const taken = levels <= 100;
      expect(outcomes[0] instanceof Malformed).toBe(!taken);
      expect(blocks.map(({ rows }) => rows)).toEqual([taken ? 4 : 2]);
    }
  });

  const million = 1_000_000;
  const emptyFields = (tag: number, count: number) => Buffer.alloc(2 * count, Uint8Array.from([tag, 0x00]));
  const repeated: readonly (readonly [string, Signal, Uint8Array])[] = [
    ['resources', 'traces', emptyFields(0x0a, million)],
    ['resources', 'metrics', emptyFields(0x0a, million)],
    ['scopes', 'logs', encode(REQUESTS.logs, { resourceLogs: [emptyFields(0x12, million)] })],
  ];
  test.each(repeated)('a million empty %s of %s', (_, signal, request) => {
    const good = whole(signal);
    for (const engine of ENGINES) {
      const { outcomes, blocks } = transcode(engines[signal][engine], [request, good]);
      expect(outcomes[0]).toMatchObject({ accepted: 0, rejected: 0 });
      expect(blocksDifference(transcode(engines[signal][engine], [good]).blocks, blocks)).toBeUndefined();
    }
  });

  test('a resource in 200,000 pieces', () => {
    const request = encode(REQUESTS.traces, { resourceSpans: [emptyFields(0x0a, 200_000)] });
    expect(enginesProblem('traces', engines.traces, [request, whole('traces')])).toBeUndefined();
  });

  test('values in pieces in each other, where copies of copies would explode', () => {
    // Each level is a list whose one value comes in two halves, of which each is the level below.
    let value = encode('AnyValue', { arrayValue: {} });
    for (let level = 0; level < 14; level++) {
      const half = encode('AnyValue', { arrayValue: { values: [value] } });
      value = Buffer.concat([half, half]);
    }
    const good = whole('logs');
    for (const engine of ENGINES) {
      const blocks = engines.logs[engine];
      const { outcomes, blocks: got } = transcode(blocks, [good, inLog(value), good]);
      if (!(outcomes[1] instanceof Malformed)) continue;
      expect(blocksDifference(transcode(blocks, [good, good]).blocks, got)).toBeUndefined();
    }
  });

  test('an attribute of 1 MiB, and 100,000 attributes', () => {
    const large = { key: 'large', value: { stringValue: 'ä"'.repeat(350_000) } };
    const values = [large.value, { bytesValue: new Uint8Array(1_000_000) }];
    const nested = { key: 'nested', value: { arrayValue: { values } } };
    const many = Array.from({ length: 100_000 }, (_, index) => {
      return { key: `k${index % 70_000}`, value: { intValue: index } };
    });
    const ids = { traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 1) };
    const first = { ...ids, attributes: [large, nested] };
    const second = { ...ids, attributes: many, name: 'x'.repeat(1_000_000) };
    const request = encode(REQUESTS.traces, requestOf('traces', [first, second]));
    expect(enginesProblem('traces', engines.traces, [request])).toBeUndefined();
    const dataPoints = [{ attributes: [...many].reverse() }];
    const metrics = encode(REQUESTS.metrics, requestOf('metrics', [{ gauge: { dataPoints } }]));
    expect(enginesProblem('metrics', engines.metrics, [metrics])).toBeUndefined();
  });

  test('a large request cut short leaves no trace, though memory grew for it', () => {
    const good = whole('traces');
    const vector = readVectors().find(({ id }) => id === 'many-spans-10k');
    if (vector === undefined) throw new Error('the vector is gone');
    const large = bodyOf(vector);
    for (const engine of ENGINES) {
      const blocks = engines.traces[engine];
      const { blocks: without } = transcode(blocks, [good, good]);
      for (const cut of [1, 1_000, Math.floor(large.length / 2)]) {
        const shorter = large.subarray(0, large.length - cut);
        const { outcomes, blocks: got } = transcode(blocks, [good, shorter, good]);
        expect(outcomes[1]).toBeInstanceOf(Malformed);
        expect(blocksDifference(without, got)).toBeUndefined();
      }
    }
  });

  test('after blocks of 160 MiB the next ones are as before', () => {
    const good = whole('logs');
    const large = inLog(encode('AnyValue', { stringValue: 'x'.repeat(16 * 1024 * 1024) }));
    const blocks = engines.logs.wasm;
    const { blocks: before } = transcode(blocks, [good]);
    for (let count = 0; count < 10; count++) blocks.append(large);
    expect(blocks.close().map(({ rows }) => rows)).toEqual([10]);
    expect(blocksDifference(before, transcode(blocks, [good]).blocks)).toBeUndefined();
  });

  test('times from 1970 to the last that fits, and the first that does not', () => {
    const year2500 = BigInt(Date.UTC(2500, 0)) * 1_000_000n;
    const times = [0n, 1n, 2n ** 63n - 1n, 2n ** 63n, year2500, 2n ** 64n - 1n];
    const points = times.flatMap((time) => [{ timeUnixNano: time }, { startTimeUnixNano: time }]);
    const metrics = [{ gauge: { dataPoints: points } }, { summary: { dataPoints: points } }];
    const request = encode(REQUESTS.metrics, requestOf('metrics', metrics));
    expect(enginesProblem('metrics', engines.metrics, [request])).toBeUndefined();
    const logRecords = times.flatMap((time) => [{ timeUnixNano: time }, { observedTimeUnixNano: time }]);
    const logs = encode(REQUESTS.logs, requestOf('logs', logRecords));
    expect(enginesProblem('logs', engines.logs, [logs])).toBeUndefined();
  });
});
