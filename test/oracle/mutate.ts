/** Damage to requests, the kinds that networks, bugs and attackers do. */
import type { Random } from './random.ts';

function replaced(bytes: Uint8Array, at: number, removed: number, inserted: readonly number[]): Uint8Array {
  return Buffer.concat([bytes.subarray(0, at), Uint8Array.from(inserted), bytes.subarray(at + removed)]);
}

function randomBytes(random: Random, count: number): number[] {
  return Array.from({ length: count }, () => random.int(256));
}

const KINDS: readonly ((bytes: Uint8Array, random: Random) => Uint8Array)[] = [
  // A bit flipped.
  (bytes, random) => {
    const at = random.int(bytes.length);
    return replaced(bytes, at, 1, [(bytes[at] ?? 0) ^ (1 << random.int(8))]);
  },
  // A byte replaced by one that lengths and tags make much of.
  (bytes, random) => replaced(bytes, random.int(bytes.length), 1, [random.pick([0, 1, 0x7f, 0x80, 0xff])]),
  // A length that lies: far too large, and overlong.
  (bytes, random) => replaced(bytes, random.int(bytes.length), 1, random.pick([
    [0xff, 0xff, 0xff, 0xff, 0x07], [0xff, 0xff, 0xff, 0xff, 0x0f], [0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], [0x80, 0x00], [0xff, 0x7f],
  ])),
  // Some bytes lost, or too many.
  (bytes, random) => replaced(bytes, random.int(bytes.length), 1 + random.int(9), []),
  (bytes, random) => replaced(bytes, random.int(bytes.length), 0, randomBytes(random, 1 + random.int(9))),
  // A piece of itself elsewhere.
  (bytes, random) => {
    const from = random.int(bytes.length);
    const piece = bytes.subarray(from, from + 1 + random.int(60));
    return replaced(bytes, random.int(bytes.length), random.int(2) * piece.length, [...piece]);
  },
];

/** `bytes` (not empty) with one to three faults in a copy. */
export function mutate(bytes: Uint8Array, random: Random): Uint8Array {
  let damaged = bytes;
  for (let left = 1 + random.int(3); left > 0 && damaged.length > 0; left--) {
    damaged = random.pick(KINDS)(damaged, random);
  }
  return damaged;
}

/** Nonsense that begins like a field of a message now and then. */
export function noise(random: Random): Uint8Array {
  const bytes = randomBytes(random, random.int(60));
  if (random.chance(0.5)) bytes.unshift(0x0a, random.int(60));
  return Uint8Array.from(bytes);
}
