/**
 * Native blocks as our gateways make them, read from outside: how many rows there are, some of the rows as a
 * block of their own, and their values. For what could not be stored as it is, so simple rather than fast.
 * Enters: the bytes of blocks one after another, without compression. They are only read; what is returned is
 * new. Anything that is no such block is a BlockError.
 */
import { BlockError } from './native-types.ts';
import { type Row, valuesOf } from './native-values.ts';
import { type PlacedBlock, placeBlock } from './native-walk.ts';
import { cutRows } from './native-cut.ts';

export { BlockError } from './native-types.ts';
export type { Row, Value } from './native-values.ts';
export { rowsClaimed } from './native-walk.ts';

export interface BlockFigures {
  readonly rows: number;
  /** About what they take in the server's memory, rather too much than too little. */
  readonly memoryBytes: number;
}

/** Of all blocks. @throws BlockError */
export function measure(bytes: Uint8Array): BlockFigures {
  let rows = 0;
  let memoryBytes = 0;
  for (const block of placeAll(bytes)) {
    rows += block.rows;
    memoryBytes += block.memoryBytes;
  }
  return { rows, memoryBytes };
}

/** Of all blocks. @throws BlockError */
export function countRows(bytes: Uint8Array): number {
  return measure(bytes).rows;
}

/** Blocks that are looked at once, to be cut again and again. The bytes have to stay as they are. */
export class Blocks {
  readonly rows: number;
  readonly #bytes: Uint8Array;
  readonly #blocks: readonly PlacedBlock[];

  /** @throws BlockError */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#blocks = [...placeAll(bytes)];
    this.rows = this.#blocks.reduce((sum, block) => sum + block.rows, 0);
  }

  /** Rows [from, to), at least one, as a block, or as many as they were in. */
  cut(from: number, to: number): Uint8Array {
    const pieces: Uint8Array[] = [];
    let first = 0;
    for (const block of this.#blocks) {
      const [start, end] = [Math.max(from - first, 0), Math.min(to - first, block.rows)];
      if (start < end) pieces.push(cutRows(this.#bytes, block, start, end));
      first += block.rows;
    }
    return Buffer.concat(pieces);
  }
}

/** The rows of all blocks, in their order. @throws BlockError when it comes to what can't be read */
export function* rowsOf(bytes: Uint8Array): Generator<Row, void, undefined> {
  for (const block of placeAll(bytes)) yield* valuesOf(bytes, block);
}

/** A fragment is one block. More are read all the same, but no flood of empty ones. */
const BLOCKS_MAX = 1_000;

function* placeAll(bytes: Uint8Array): Generator<PlacedBlock, void, undefined> {
  if (bytes.length === 0) throw new BlockError('malformed', 'there is no block');
  let blocks = 0;
  for (let at = 0; at < bytes.length; ) {
    blocks += 1;
    if (blocks > BLOCKS_MAX) throw new BlockError('unknown', `more than ${BLOCKS_MAX} blocks`);
    const block = placeBlock(bytes, at);
    yield block;
    at = block.end;
  }
}
