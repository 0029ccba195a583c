/**
 * What the tests of the transcoder share: recorded requests, and the way from a request to rows and to the
 * oracle's.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { gunzipSync, inflateRawSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import { REQUESTS } from '../../proto/fields.ts';
import { type Block, Malformed, type OpenBlocks } from '../../src/model/block.ts';
import type { Outcome } from '../../src/model/outcome.ts';
import type { Signal, Table } from '../../src/model/signal.ts';
import { createOpenBlocks } from '../../src/transcode/open-blocks.ts';
import { COLUMNS } from '../../src/transcode/tables.ts';
import { joinRows, outcomeDifference, type Tables, tablesDifference } from '../oracle/compare.ts';
import { decode, DecodeError } from '../oracle/decode.ts';
import { decodeNative } from '../oracle/native.ts';
import { type Expected, expectedRows, type Row } from '../oracle/rows.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const VECTORS = resolve(import.meta.dirname, '../fixtures/vectors');

/** One recorded or hand-made request; README.md of the vectors says what the fields mean. */
export interface Vector {
  readonly id: string;
  readonly signal: Signal;
  readonly via: 'http' | 'grpc';
  readonly ct: string;
  readonly ce: string;
  readonly file: string;
  readonly outcomes: readonly string[];
  readonly loose: readonly string[];
  readonly items?: Readonly<Record<string, number>>;
}

export function readVectors(): readonly Vector[] {
  const read = (name: string) => JSON.parse(readFileSync(resolve(VECTORS, name), 'utf8')) as Vector[];
  return [...read('corpus.json'), ...read('edge.json')];
}

export function isJson(vector: Vector): boolean {
  return vector.ct.toLowerCase().includes('json');
}

function inflateEither(bytes: Buffer): Buffer {
  const isZlib = ((bytes[0] ?? 0) & 0x0f) === 8 && bytes.length > 1 && bytes.readUInt16BE(0) % 31 === 0;
  return isZlib ? inflateSync(bytes) : inflateRawSync(bytes);
}

/**
 * The message itself: inflated with Node's own zlib, not with ours. @throws Error when it can't be inflated.
 */
export function bodyOf(vector: Vector): Uint8Array {
  const bytes = readFileSync(resolve(VECTORS, vector.file));
  switch (vector.ce) {
    case '':
      return bytes;
    case 'gzip':
    case 'x-gzip':
      return gunzipSync(bytes, { maxOutputLength: 64 * 1024 * 1024 });
    case 'zstd':
      return zstdDecompressSync(bytes);
    case 'deflate':
    case 'zlib':
      return inflateEither(bytes);
    default:
      throw new Error(`no way to inflate ${vector.ce}`);
  }
}

/** How deep values may nest in these tests. */
export const NESTING_MAX = 64;

export const ENGINES = ['plain', 'wasm'] as const;
export type Engine = (typeof ENGINES)[number];
/** Both engines, to be given the same requests. */
export type Engines = Readonly<Record<Engine, OpenBlocks>>;

function buildWasmWhenMissing(): void {
  if (existsSync(resolve(ROOT, 'build/transcode.wasm'))) return;
  execFileSync(process.execPath, ['scripts/build-wasm.ts'], { cwd: ROOT, stdio: 'pipe' });
}

export async function openEngines(signal: Signal): Promise<Engines> {
  buildWasmWhenMissing();
  const limits = { nestingMax: NESTING_MAX };
  return {
    plain: await createOpenBlocks(signal, 'plain', limits),
    wasm: await createOpenBlocks(signal, 'wasm', limits),
  };
}

export async function openAllSignals(): Promise<Readonly<Record<Signal, Engines>>> {
  const [traces, metrics, logs] = [openEngines('traces'), openEngines('metrics'), openEngines('logs')];
  return { traces: await traces, metrics: await metrics, logs: await logs };
}

/** What became of some requests that shared open blocks. */
export interface Trial {
  readonly outcomes: readonly (Outcome | Malformed)[];
  readonly blocks: readonly Block[];
}

/** Appends all, a malformed one too, and closes. The bytes are copies. */
export function transcode(blocks: OpenBlocks, requests: readonly Uint8Array[]): Trial {
  const outcomes = requests.map((request) => {
    try {
      return blocks.append(request);
    } catch (error) {
      if (error instanceof Malformed) return error;
      throw error;
    }
  });
  return { outcomes, blocks: copied(blocks.close()) };
}

function copied(blocks: readonly Block[]): Trial['blocks'] {
  return blocks.map((block) => ({ ...block, bytes: block.bytes.slice() }));
}

/** Decodes blocks and checks what stands beside the rows: their number, and the columns in order. */
export function rowsOf(blocks: Trial['blocks']): Tables {
  const tables = new Map<Table, readonly Row[]>();
  for (const { table, rows, bytes } of blocks) {
    const [block, ...more] = decodeNative(bytes);
    if (block === undefined || more.length > 0) throw new Error(`${table}: ${more.length} blocks too many`);
    const found = block.rows.length;
    if (found !== rows) throw new Error(`${table}: ${found} rows, but ${rows} announced`);
    const columns = JSON.stringify(block.columns);
    const wanted = JSON.stringify(COLUMNS[table].map(({ name, type }) => ({ name, type })));
    if (columns !== wanted) throw new Error(`${table}: columns ${columns}, not ${wanted}`);
    tables.set(table, block.rows);
  }
  return tables;
}

/** What the oracle says about a request. */
interface Verdict {
  /** What must be stored, or that it is no message. */
  readonly strict: Expected | DecodeError;
  /** Where a fault is only in what counts for nothing (decode.ts: lazy): it may be stored so, or refused. */
  readonly lazy: Expected | DecodeError;
}

function expectedOf(signal: Signal, request: Uint8Array, reading: 'strict' | 'lazy'): Expected | DecodeError {
  try {
    return expectedRows(signal, decode(REQUESTS[signal], request, reading), NESTING_MAX);
  } catch (error) {
    if (error instanceof DecodeError) return error;
    throw error;
  }
}

const verdicts: Readonly<Record<Signal, WeakMap<Uint8Array, Verdict>>> = {
  traces: new WeakMap(), metrics: new WeakMap(), logs: new WeakMap(),
};

/** Its bytes must not change afterwards. */
function verdictOn(signal: Signal, request: Uint8Array): Verdict {
  const known = verdicts[signal].get(request);
  if (known !== undefined) return known;
  const strict = expectedOf(signal, request, 'strict');
  const lazy = strict instanceof DecodeError ? expectedOf(signal, request, 'lazy') : strict;
  verdicts[signal].set(request, { strict, lazy });
  return { strict, lazy };
}

/** What must be stored of a request, or that it is no message. Its bytes must not change afterwards. */
export function judge(signal: Signal, request: Uint8Array): Expected | DecodeError {
  return verdictOn(signal, request).strict;
}

type Requests = readonly Uint8Array[];
/** In words; undefined when there is none. */
type Problem = string | undefined;

function outcomeProblem({ strict, lazy }: Verdict, outcome: Outcome | Malformed, length: number): Problem {
  if (outcome instanceof Malformed) {
    if (!(strict instanceof DecodeError)) return `refused: ${outcome.message}`;
    const { byteOffset } = outcome;
    const inside = Number.isInteger(byteOffset) && byteOffset >= 0 && byteOffset <= length;
    return inside ? undefined : `refused at byte ${byteOffset} of ${length}`;
  }
  return lazy instanceof DecodeError ? `taken, but: ${lazy.message}` : outcomeDifference(lazy, outcome);
}

/** Why the outcomes of a trial can't be right; undefined when they are as the oracle says. */
export function outcomesProblem(signal: Signal, requests: Requests, trial: Trial): Problem {
  for (const [index, request] of requests.entries()) {
    const outcome = trial.outcomes[index];
    const problem = outcome && outcomeProblem(verdictOn(signal, request), outcome, request.length);
    if (problem !== undefined) return `request ${index}: ${problem}`;
  }
  return undefined;
}

/** The same for outcomes and stored rows. */
export function trialProblem(signal: Signal, requests: Requests, trial: Trial): Problem {
  const problem = outcomesProblem(signal, requests, trial);
  if (problem !== undefined) return problem;
  const stored = requests.flatMap((request, index) => {
    const { lazy } = verdictOn(signal, request);
    return trial.outcomes[index] instanceof Malformed || lazy instanceof DecodeError ? [] : [lazy];
  });
  return tablesDifference(joinRows(stored), rowsOf(trial.blocks));
}

/** Both engines against the oracle and against each other, byte by byte. */
export function enginesProblem(signal: Signal, engines: Engines, requests: Requests): Problem {
  const [plain, wasm] = [transcode(engines.plain, requests), transcode(engines.wasm, requests)];
  const problem = trialProblem(signal, requests, plain);
  if (problem !== undefined) return `plain: ${problem}`;
  const difference = trialDifference(plain, wasm);
  return difference === undefined ? undefined : `wasm unlike plain: ${difference}`;
}

/** The first thing in which two trials are not identical. */
export function trialDifference(one: Trial, other: Trial): Problem {
  for (const [index, outcome] of one.outcomes.entries()) {
    const [here, there] = [describe(outcome), describe(other.outcomes[index])];
    if (here !== there) return `request ${index}: ${there}, not ${here}`;
  }
  return blocksDifference(one.blocks, other.blocks);
}

export function blocksDifference(one: Trial['blocks'], other: Trial['blocks']): Problem {
  if (one.length !== other.length) return `${other.length} blocks, not ${one.length}`;
  for (const [index, { table, bytes }] of one.entries()) {
    const bytesThere = other[index]?.bytes ?? new Uint8Array();
    if (Buffer.compare(bytes, bytesThere) === 0) continue;
    const values = tablesDifference(rowsOf(one), rowsOf(other));
    return `${table}: other bytes; ${values ?? 'the same values'}`;
  }
  return undefined;
}

function describe(outcome: Outcome | Malformed | undefined): string {
  if (outcome === undefined || outcome instanceof Malformed) return String(outcome);
  const { accepted, rejected, reasons, warnings } = outcome;
  return JSON.stringify({ accepted, rejected, reasons: [...reasons].sort(), warnings: [...warnings].sort() });
}
