// Goal: which hosts run a statement, which get it from another one, and in what order, follows from what each
// of them has.
import { expect, test } from 'vitest';
import type { Facts } from '../../src/migrate/effects.ts';
import { placeStep, wavesOf } from '../../src/migrate/placement.ts';
import type { HostView } from '../../src/migrate/survey.ts';

/** Shards x replicas: only where a host stands counts here. */
function hosts(shards: number, replicas: number): HostView[] {
  return Array.from({ length: shards * replicas }, (_, index) => ({
    shard: Math.floor(index / replicas),
    replica: index % replicas,
  })) as HostView[];
}

/** `m`issing, `d`one, `u`nknown; a capital letter travels; `-` has no statement. */
function facts(word: string): (Facts | undefined)[] {
  const states = { m: 'missing', d: 'done', u: 'unknown' } as const;
  return [...word].map((letter) => {
    const state = states[letter.toLowerCase() as keyof typeof states];
    return state && ({ state, travels: letter !== letter.toLowerCase() } as Facts);
  });
}

test.each([
  ['a CREATE runs everywhere', 'mmmm', 'run run run run'],
  ['where it is missing', 'dmdm', 'skip run skip run'],
  ['an ALTER of a replicated table on one replica of each shard', 'MMMM', 'run follow run follow'],
  ['which one has done already: the other follows', 'DMMD', 'skip follow follow skip'],
  ['of which nobody knows', 'UUUU', 'run follow run follow'],
  ['not replicated on one host: there it runs by itself', 'MmMM', 'run run run follow'],
  ['no statement for one host', '-MMM', 'none run run follow'],
])('%s', (_, word, roles) => {
  expect(placeStep(hosts(2, 2), facts(word)).join(' ')).toBe(roles);
});

test.each([
  ['one host', 1, 1, 'm', [[0]]],
  ['2 x 2', 2, 2, 'mmmm', [[0], [2], [1, 3]]],
  ['3 x 2', 3, 2, 'mmmmmm', [[0], [2, 4], [1, 3, 5]]],
  ['1 x 3', 1, 3, 'mmm', [[0], [1], [2]]],
  ['only the last is missing', 2, 2, 'dddm', [[3]]],
  ['nothing to do', 2, 2, 'dddd', []],
])('the first host alone, then replica by replica: %s', (_, shards, replicas, word, waves) => {
  const views = hosts(shards, replicas);
  expect(wavesOf(views, placeStep(views, facts(word)))).toEqual(waves);
});
