/**
 * Fragments looked into, which only happens to those of a batch that was refused: what ClickHouse will find
 * in them, and some of their rows as a fragment of their own.
 */
import { zstdCompressSync } from 'node:zlib';
import { BlockError, Blocks, measure, rowsClaimed } from '../clickhouse/native-block.ts';
import { inflate } from '../compress/inflate.ts';
import type { Layout } from '../model/batch.ts';

/** No more than ClickHouse takes as one block: what is larger is not divided anyway. */
const BLOCK_BYTES_MAX = 256 << 20;
/** Of a block of which nothing is known, each byte may be a string, which takes nine more in memory. */
const MEMORY_RATIO_MAX = 10;

export interface FragmentFacts {
  /** What it says itself; undefined where it can't be read so far. */
  readonly rows: number | undefined;
  /** About what it takes in the server's memory, rather too much. */
  readonly memoryBytes: number;
  /**
   * `whole`: a good block, as far as can be seen. `opaque`: perhaps, it names types that aren't known here.
   * `broken`: cut off or corrupt. ClickHouse may take it for the end of an insert, without a word.
   */
  readonly state: 'whole' | 'opaque' | 'broken';
}

/** The blocks in a fragment. @throws BlockError */
export function blocksOf(layout: Layout, fragment: Uint8Array): Uint8Array {
  if (layout === 'r1') return fragment;
  const inflated = inflate(fragment, 'zstd', BLOCK_BYTES_MAX);
  if (inflated.kind === 'ok') return inflated.bytes;
  if (inflated.kind === 'corrupt') throw new BlockError('malformed', inflated.message);
  throw new BlockError('unknown', `it has more than ${BLOCK_BYTES_MAX} bytes`);
}

/** @throws BlockError */
export function openFragment(layout: Layout, fragment: Uint8Array): Blocks {
  return new Blocks(blocksOf(layout, fragment));
}

/** A fragment of a block. */
export function fragmentOf(layout: Layout, block: Uint8Array): Uint8Array {
  return layout === 'z1' ? zstdCompressSync(block) : block;
}

export function lookInto(layout: Layout, fragment: Uint8Array): FragmentFacts {
  const blocks = unlessBroken(() => blocksOf(layout, fragment));
  if (typeof blocks === 'string') {
    const memoryBytes = blocks === 'unknown' ? Number.POSITIVE_INFINITY : 0;
    return { rows: undefined, memoryBytes, state: stateOf(blocks) };
  }
  const figures = unlessBroken(() => measure(blocks));
  if (typeof figures !== 'string') return { ...figures, state: 'whole' };
  const claimed = unlessBroken(() => rowsClaimed(blocks));
  const rows = figures === 'unknown' && typeof claimed === 'number' && claimed > 0 ? claimed : undefined;
  return { rows, memoryBytes: blocks.length * MEMORY_RATIO_MAX, state: stateOf(figures) };
}

function stateOf(kind: BlockError['kind']): FragmentFacts['state'] {
  return kind === 'unknown' ? 'opaque' : 'broken';
}

function unlessBroken<T>(look: () => T): T | BlockError['kind'] {
  try {
    return look();
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    return error.kind;
  }
}
