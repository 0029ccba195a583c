/**
 * The transcoder's door: requests of one signal in, ClickHouse Native blocks out. Everything between stands
 * in files that are TypeScript and AssemblyScript at once, so that it runs in WebAssembly and, byte for byte
 * the same, without.
 */
import type { Block, OpenBlocks } from '../model/block.ts';
import {
  NOTHING, type Outcome, REJECT_REASONS, type RejectReason, WARNINGS, type Warning,
} from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import { COUNTERS, SIGNAL_LOGS, SIGNAL_METRICS, SIGNAL_TRACES } from './codes.ts';
import { type Engine, type EngineName, loadEngine } from './engine.ts';
import { COLUMNS, type ColumnType, SIGNAL_TABLES } from './tables.ts';

const SIGNAL_NUMBERS: Readonly<Record<Signal, number>> = {
  traces: SIGNAL_TRACES, metrics: SIGNAL_METRICS, logs: SIGNAL_LOGS,
};

/** WebAssembly's memory never shrinks: after an unusual request the next blocks begin in a new one. */
const MEMORY_KEPT_BYTES_MAX = 128 * 1024 * 1024;

/**
 * Open blocks for one signal.
 * @param limits nestingMax: how many arrays and key-value lists may stand inside each other in one AnyValue.
 * @throws Fault `transcoder_not_built` (not retried) when the wasm engine wasn't built; `append` and `close`
 *   of the result throw Fault `transcoder_memory` when the engine's memory (2 GiB) is exhausted.
 */
export async function createOpenBlocks(
  signal: Signal, engine: EngineName, limits: { readonly nestingMax: number },
): Promise<OpenBlocks> {
  const create = await loadEngine(engine);
  return new EngineBlocks(signal, create, limits.nestingMax);
}

class EngineBlocks implements OpenBlocks {
  readonly #signal: Signal;
  readonly #create: () => Engine;
  readonly #nestingMax: number;
  #engine: Engine;
  #handle: number;

  constructor(signal: Signal, create: () => Engine, nestingMax: number) {
    this.#signal = signal;
    this.#create = create;
    this.#nestingMax = nestingMax;
    this.#engine = create();
    this.#handle = this.#open();
  }

  get rows(): number {
    return this.#engine.calls.rows(this.#handle) >>> 0;
  }

  get bytes(): number {
    return this.#engine.calls.bytes(this.#handle) >>> 0;
  }

  append(request: Uint8Array): Outcome {
    const { calls } = this.#engine;
    const input = calls.input(this.#handle, request.length) >>> 0;
    this.#engine.memory().set(request, input);
    try {
      calls.append(this.#handle, request.length);
    } catch (error) {
      calls.restore(this.#handle);
      throw error;
    }
    return this.#outcome();
  }

  close(): readonly Block[] {
    const { calls } = this.#engine;
    const out = calls.close(this.#handle) >>> 0;
    const memory = this.#engine.memory();
    const blocks: Block[] = [];
    SIGNAL_TABLES[this.#signal].forEach((table, number) => {
      const rows = calls.writtenRows(this.#handle, number) >>> 0;
      const start = out + (calls.writtenAt(this.#handle, number) >>> 0);
      const bytes = memory.subarray(start, start + (calls.writtenBytes(this.#handle, number) >>> 0));
      if (rows > 0) blocks.push({ table, rows, bytes });
    });
    if (memory.length > MEMORY_KEPT_BYTES_MAX) this.#renew();
    return blocks;
  }

  /** The blocks just closed keep the old memory alive for as long as somebody holds them. */
  #renew(): void {
    const fresh = this.#create();
    if (fresh === this.#engine) return;
    this.#engine = fresh;
    this.#handle = this.#open();
  }

  #open(): number {
    const { calls } = this.#engine;
    const handle = calls.open(SIGNAL_NUMBERS[this.#signal], this.#nestingMax) >>> 0;
    SIGNAL_TABLES[this.#signal].forEach((table, number) => {
      const heads = headsOf(COLUMNS[table]);
      const at = calls.heads(handle, number, heads.length) >>> 0;
      this.#engine.memory().set(heads, at);
    });
    return handle;
  }

  #outcome(): Outcome {
    const at = this.#engine.calls.counters() >>> 0;
    const memory = this.#engine.memory();
    const view = new DataView(memory.buffer, memory.byteOffset + at, COUNTERS * 4);
    const accepted = view.getUint32(0, true);
    let rejected = 0;
    const reasons = new Map<RejectReason, number>();
    const warnings = new Map<Warning, number>();
    REJECT_REASONS.forEach((reason, i) => {
      const count = view.getUint32(4 + 4 * i, true);
      if (count > 0) reasons.set(reason, count);
      rejected += count;
    });
    WARNINGS.forEach((warning, i) => {
      const count = view.getUint32(4 + 4 * (REJECT_REASONS.length + i), true);
      if (count > 0) warnings.set(warning, count);
    });
    if (accepted === 0 && rejected === 0 && warnings.size === 0) return NOTHING;
    return { accepted, rejected, reasons, warnings };
  }
}

/**
 * What stands before each column's data in a block, each with its length in 4 bytes in front (Heads in
 * native.ts).
 */
function headsOf(columns: readonly ColumnType[]): Buffer {
  return Buffer.concat(columns.flatMap((column) => {
    const head = Buffer.concat([text(column.name), text(column.type), prefixOf(column.type)]);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(head.length);
    return [size, head];
  }));
}

/** A String of ClickHouse shorter than 128 bytes. */
function text(string: string): Buffer {
  return Buffer.from([string.length, ...Buffer.from(string)]);
}

/** The version of the keys' form, for types with a LowCardinality in them. */
function prefixOf(type: string): Buffer {
  return Buffer.from(type.includes('LowCardinality') ? [1, 0, 0, 0, 0, 0, 0, 0] : []);
}
