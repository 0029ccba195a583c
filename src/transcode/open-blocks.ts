/**
 * The transcoder's door: requests of one signal in, ClickHouse Native blocks out. Everything between stands
 * in files that are TypeScript and AssemblyScript at once, so that it runs in WebAssembly and, byte for byte
 * the same, without.
 */
import { assert } from '../base/errors.ts';
import { type Block, NO_BOUNDS, type OpenBlocks, type RecordBounds } from '../model/block.ts';
import {
  FORMAT_REASONS, NOTHING, type Outcome, type RejectReason, WARNINGS, type Warning,
} from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import {
  CLOSED_BLOCK, CLOSED_HEAD, COUNT_ACCEPTED, SHARDS_MAX, SIGNAL_LOGS, SIGNAL_METRICS, SIGNAL_TRACES,
} from './codes.ts';
import { type Engine, type EngineName, loadEngine } from './engine.ts';
import { Exceeded } from './host.ts';
import { COLUMNS, type ColumnType, SIGNAL_TABLES } from './tables.ts';

const SIGNAL_NUMBERS: Readonly<Record<Signal, number>> = {
  traces: SIGNAL_TRACES, metrics: SIGNAL_METRICS, logs: SIGNAL_LOGS,
};

/** WebAssembly's memory never shrinks: after an unusual request the next blocks begin in a new one. */
const MEMORY_KEPT_BYTES_MAX = 128 * 1024 * 1024;

export interface TranscodeLimits {
  readonly nestingMax: number;
  readonly seriesSeed?: number;
}

/**
 * Open blocks for one signal.
 * @param limits nestingMax: how many arrays and key-value lists may stand inside each other in one AnyValue;
 *   seriesSeed: what the names of series depend on (`series`), an integer below 2^53, the same wherever they
 *   are compared
 * @throws Fault `transcoder_not_built` (not retried) when the wasm engine wasn't built; `append` and `close`
 *   of the result throw Fault `transcoder_memory` when the engine's memory (2 GiB) is exhausted.
 */
export async function createOpenBlocks(
  signal: Signal, engine: EngineName, limits: TranscodeLimits,
): Promise<OpenBlocks> {
  const create = await loadEngine(engine);
  return new EngineBlocks(signal, create, limits);
}

class EngineBlocks implements OpenBlocks {
  readonly #signal: Signal;
  readonly #create: () => Engine;
  readonly #limits: TranscodeLimits;
  #weights: readonly number[] = [1];
  #engine: Engine;
  #handle: number;
  #viewed: DataView = new DataView(new ArrayBuffer(0));
  /** Whose name the engine has. */
  #tenant = '';
  /** What the last call was, while that counts. */
  #appended: RecordBounds | undefined;

  constructor(signal: Signal, create: () => Engine, limits: TranscodeLimits) {
    this.#signal = signal;
    this.#create = create;
    this.#limits = limits;
    this.#engine = create();
    this.#handle = this.#open();
  }

  route(weights: readonly number[]): void {
    assert(weights.length >= 1 && weights.length <= SHARDS_MAX, `${weights.length} shards can't be had`);
    const whole = weights.every((weight) => Number.isSafeInteger(weight) && weight >= 0);
    assert(whole, `${weights} are no weights`);
    const sum = weights.reduce((total, weight) => total + weight, 0);
    assert(sum > 0 && sum < 2 ** 32, `the weights' sum ${sum} is out of range`);
    this.#weights = [...weights];
    this.#appended = undefined;
    this.#route();
  }

  get rows(): number {
    return this.#engine.calls.rows(this.#handle) >>> 0;
  }

  get bytes(): number {
    return this.#engine.calls.bytes(this.#handle) >>> 0;
  }

  append(request: Uint8Array, tenant = ''): Outcome {
    const outcome = this.appendWithin(request, NO_BOUNDS, tenant);
    assert(outcome, 'where nothing is bounded nothing exceeds a bound');
    return outcome;
  }

  appendWithin(request: Uint8Array, bounds: RecordBounds, tenant = ''): Outcome | undefined {
    const { calls } = this.#engine;
    this.#appended = undefined;
    this.#bound(bounds);
    if (tenant !== this.#tenant) this.#name(tenant);
    const input = calls.input(this.#handle, request.length) >>> 0;
    this.#engine.memory().set(request, input);
    try {
      if (!calls.append(this.#handle, request.length)) return undefined;
    } catch (error) {
      calls.restore(this.#handle);
      if (error instanceof Exceeded) return undefined;
      throw error;
    }
    this.#appended = bounds;
    return this.#outcome();
  }

  undo(): void {
    assert(this.#appended, 'there is nothing to be taken back');
    this.#appended = undefined;
    this.#engine.calls.restore(this.#handle);
  }

  series(): Uint32Array {
    if (!this.#appended?.series) return new Uint32Array();
    const { calls } = this.#engine;
    const at = calls.series(this.#handle) >>> 0;
    return new Uint32Array(this.#engine.memory().buffer, at, calls.seriesBytes(this.#handle) / 4);
  }

  close(): readonly Block[] {
    const { calls } = this.#engine;
    this.#appended = undefined;
    const closed = calls.close(this.#handle) >>> 0;
    const memory = this.#engine.memory();
    const view = this.#view();
    const number = (index: number) => view.getUint32(closed + 4 * index, true);
    const first = number(0);
    const blocks = Array.from({ length: number(1) }, (_, place): Block => {
      const at = CLOSED_HEAD + place * CLOSED_BLOCK;
      const table = SIGNAL_TABLES[this.#signal][number(at + 1)];
      assert(table, `a block of table number ${number(at + 1)}`);
      const start = first + number(at + 3);
      const bytes = memory.subarray(start, start + number(at + 4));
      return { shard: number(at), table, rows: number(at + 2), bytes };
    });
    if (memory.length > MEMORY_KEPT_BYTES_MAX) this.#renew();
    return blocks;
  }

  /** The blocks just closed keep the old memory alive for as long as somebody holds them. */
  #renew(): void {
    const fresh = this.#create();
    if (fresh === this.#engine) return;
    this.#engine = fresh;
    this.#tenant = '';
    this.#handle = this.#open();
    this.#route();
  }

  #open(): number {
    const { calls } = this.#engine;
    const handle = calls.open(SIGNAL_NUMBERS[this.#signal], this.#limits.nestingMax) >>> 0;
    SIGNAL_TABLES[this.#signal].forEach((table, number) => {
      const heads = headsOf(COLUMNS[table]);
      const at = calls.heads(handle, number, heads.length) >>> 0;
      this.#engine.memory().set(heads, at);
    });
    return handle;
  }

  /** Said for each request: of the plain engine's memory there is one for all. */
  #bound(bounds: RecordBounds): void {
    const { calls } = this.#engine;
    const { attributesMax, valueBytesMax, eventsMax, linksMax, timeMinMs, timeMaxMs } = bounds;
    const { seriesSeed = 0 } = this.#limits;
    calls.boundCounts(attributesMax, valueBytesMax, eventsMax, linksMax);
    // A bound of time is itself within 4.3 s of which some are beyond it: these don't count as within.
    const first = timeMinMs === 0 ? 0 : timeUpper(timeMinMs) + 1;
    const last = timeMaxMs === 0 ? UINT32_MAX : Math.min(timeUpper(timeMaxMs) - 1, UINT32_MAX);
    assert(last >= 0, `${timeMaxMs} ms since 1970 is no time that bounds anything`);
    calls.boundTimes(first, last, bounds.nesting);
    calls.wantSeries(bounds.series, seriesSeed >>> 0, Math.floor(seriesSeed / 2 ** 32) >>> 0);
  }

  #name(tenant: string): void {
    const text = Buffer.from(tenant);
    // Until it is there the engine has none: it may lack the memory for it.
    this.#tenant = '';
    const at = this.#engine.calls.tenant(this.#handle, text.length) >>> 0;
    this.#engine.memory().set(text, at);
    this.#tenant = tenant;
  }

  #route(): void {
    const { calls } = this.#engine;
    const at = calls.intervals(this.#handle) >>> 0;
    const view = this.#view();
    let end = 0;
    this.#weights.forEach((weight, shard) => {
      end += weight;
      view.setUint32(at + 4 * shard, end, true);
    });
    calls.route(this.#handle, this.#weights.length);
  }

  /** All of the engine's memory, until its next call. A new view for each would cost more than a row. */
  #view(): DataView {
    const { buffer } = this.#engine.memory();
    if (this.#viewed.buffer !== buffer) this.#viewed = new DataView(buffer);
    return this.#viewed;
  }

  #outcome(): Outcome {
    const at = this.#engine.calls.counters() >>> 0;
    const view = this.#view();
    const accepted = view.getUint32(at + 4 * COUNT_ACCEPTED, true);
    let rejected = 0;
    const reasons = new Map<RejectReason, number>();
    const warnings = new Map<Warning, number>();
    FORMAT_REASONS.forEach((reason, i) => {
      const count = view.getUint32(at + 4 * (1 + i), true);
      if (count > 0) reasons.set(reason, count);
      rejected += count;
    });
    WARNINGS.forEach((warning, i) => {
      const count = view.getUint32(at + 4 * (1 + FORMAT_REASONS.length + i), true);
      if (count > 0) warnings.set(warning, count);
    });
    if (accepted === 0 && rejected === 0 && warnings.size === 0) return NOTHING;
    return { accepted, rejected, reasons, warnings };
  }
}

const UINT32_MAX = 2 ** 32 - 1;

/** The upper 32 bits of a time in nanoseconds: 1e6 / 2^32 is 15625 / 2^26, so nothing has to be rounded. */
function timeUpper(ms: number): number {
  const unit = 2 ** 26;
  return Math.floor(ms / unit) * 15_625 + Math.floor(((ms % unit) * 15_625) / unit);
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
