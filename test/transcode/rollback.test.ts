/**
 * Goal: what is taken back leaves no trace. A refused record, a malformed request, and a dictionary that is
 * cut back give the same bytes as if they had never been there, also where tables have grown in between.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { REQUESTS } from '../../proto/fields.ts';
import { Malformed } from '../../src/model/block.ts';
import { Dictionary } from '../../src/transcode/dictionary.ts';
import { alloc, arena, hash } from '../../src/transcode/memory.ts';
import { encode, type PlainMessage } from '../oracle/encode.ts';
import { seededRandom } from '../oracle/random.ts';
import { blocksDifference, ENGINES, type Engines, openEngines, transcode } from '../support/otlp.ts';

const text = alloc(64);

function write(key: string): number {
  arena().set(Buffer.from(key), text);
  return key.length;
}

describe('a dictionary cut back', () => {
  const idOf = (dictionary: Dictionary, key: string) => dictionary.id(text, write(key));
  const nextOf = (dictionary: Dictionary, key: string) => dictionary.idOfNext(text, write(key));
  const bytesOf = ({ keys }: Dictionary) => Buffer.from(arena().subarray(keys.base, keys.at));

  test('goes on as one that never had more', () => {
    const random = seededRandom(5);
    for (let run = 0; run < 50; run++) {
      const [cut, fresh] = [new Dictionary(), new Dictionary()];
      const kept = Array.from({ length: random.int(400) }, () => `k${random.int(300)}`);
      for (const key of kept) expect(idOf(cut, key)).toBe(idOf(fresh, key));
      const count = cut.count;
      for (let i = random.int(2_000); i > 0; i--) idOf(cut, `gone${random.int(1_000)}`);
      cut.cut(count);
      for (let i = 0; i < 400; i++) {
        const key = random.pick([`k${random.int(300)}`, `gone${random.int(900)}`, `new${random.int(50)}`]);
        expect(idOf(cut, key)).toBe(idOf(fresh, key));
      }
      expect(bytesOf(cut).equals(bytesOf(fresh))).toBe(true);
    }
  });

  test('sees through guesses that point to what is gone', () => {
    const dictionary = new Dictionary();
    for (const key of ['a', 'b', 'c']) nextOf(dictionary, key);
    dictionary.cut(1);
    expect(['a', 'x', 'b', 'c'].map((key) => nextOf(dictionary, key))).toEqual([0, 1, 2, 3]);
    dictionary.previous = 0;
    expect(['a', 'b', 'c', 'x'].map((key) => nextOf(dictionary, key))).toEqual([0, 2, 3, 1]);
  });

  test('is as good as new after clear, small or large', () => {
    for (const size of [3, 5_000]) {
      const dictionary = new Dictionary();
      for (let i = 0; i < size; i++) idOf(dictionary, `old${i}`);
      dictionary.clear();
      expect(dictionary.count).toBe(0);
      expect(['b', 'a', 'old1', 'b'].map((key) => idOf(dictionary, key))).toEqual([0, 1, 2, 0]);
    }
  });

  test('gives every key its text, also where a sender has chosen keys that collide', () => {
    const dictionary = new Dictionary();
    const key = (at: number) => Buffer.from(arena().subarray(at, at + 8)).toString('hex');
    expect(hash(collide(1), 8)).toBe(hash(collide(2), 8));
    for (let i = 0; i < 5_000; i++) {
      const id = dictionary.id(collide(i), 8);
      // Each key is stored with its length in one byte before it.
      expect(key(dictionary.keys.base + 9 * id + 1)).toBe(key(text));
    }
    expect(dictionary.count).toBe(5_000);
    dictionary.cut(10);
    expect(dictionary.id(collide(3), 8)).toBe(3);
    expect(dictionary.id(collide(4_000), 8)).toBe(10);
  });
});

/** Writes the i-th of many keys of 8 bytes with one and the same hash: the second word undoes the first. */
function collide(i: number): number {
  const view = new DataView(arena().buffer);
  const mixed = Math.imul(8 ^ i, 0x85ebca6b);
  view.setInt32(text, i, true);
  view.setInt32(text + 4, mixed ^ (mixed >>> 15) ^ 0x5a5a5a5a, true);
  return text;
}

const IDS = { traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 2) };
const attributes = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, i) => ({ key: `${prefix}${i}`, value: { stringValue: `value ${i}` } }));
const event = (name: string, count: number) => ({ name, attributes: attributes(`${name}.`, count) });
const traces = (spans: readonly PlainMessage[]) =>
  encode(REQUESTS.traces, { resourceSpans: [{ scopeSpans: [{ spans }] }] });

describe.each(ENGINES)('%s', (engine) => {
  let engines: Engines;
  beforeAll(async () => {
    engines = await openEngines('traces');
  });

  test('a refused span leaves no trace in the bytes, whatever it had appended before', () => {
    const good = { ...IDS, name: 'good', attributes: attributes('a', 5), events: [event('e', 2)] };
    const lists = {
      attributes: attributes('gone', 3_000),
      events: [event('gone', 400), event('e', 1)],
      links: [{ ...IDS, traceState: 'gone', attributes: attributes('gone', 300) }],
    };
    const refused = [
      { ...lists, spanId: IDS.spanId },
      { ...lists, ...IDS, parentSpanId: Buffer.alloc(7) },
      { ...lists, ...IDS, startTimeUnixNano: 2n ** 63n },
      { ...lists, ...IDS, links: [...lists.links, { traceId: Buffer.alloc(3) }] },
      { ...lists, ...IDS, events: [...lists.events, { timeUnixNano: 2n ** 64n - 1n }] },
    ];
    const blocks = engines[engine];
    const without = transcode(blocks, [traces([good, good])]);
    const among = transcode(blocks, [traces([refused[0] ?? {}, good, ...refused, good, ...refused])]);
    expect(among.outcomes[0]).toMatchObject({ accepted: 2, rejected: 1 + 2 * refused.length });
    expect(blocksDifference(without.blocks, among.blocks)).toBeUndefined();
  });

  test('a request that turns out malformed at its very end leaves no trace in the bytes', () => {
    const status = { code: 2, message: 'm' };
    const first = traces([{ ...IDS, name: 'first', attributes: attributes('a', 5), status }]);
    const spans = Array.from({ length: 300 }, (_, i) => ({
      ...IDS,
      name: `gone ${i}`,
      kind: 1 + (i % 5),
      attributes: attributes(`gone${i}.`, 20),
      events: [event(`gone${i}`, 1)],
    }));
    const malformed = Buffer.concat([traces(spans), Buffer.from([0x0a, 0x05])]);
    const last = traces([{ ...IDS, name: 'last', kind: 3, attributes: attributes('b', 5) }]);
    const blocks = engines[engine];
    const without = transcode(blocks, [first, last]);
    const among = transcode(blocks, [malformed, first, malformed, last, malformed]);
    expect(among.outcomes.filter((outcome) => outcome instanceof Malformed)).toHaveLength(3);
    expect(among.outcomes[0]).toMatchObject({ byteOffset: malformed.length - 1 });
    expect(blocksDifference(without.blocks, among.blocks)).toBeUndefined();
  });
});
