/**
 * The board in Redis on which the processes of an installation write how they are, and read how all others
 * are, a few times a second (lua/pressure_board.lua). In: this process' entry. Out: everybody's. While Redis
 * is away what was read last stays for a while.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { assert, Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { RedisCommands } from '../redis/client.ts';
import type { Reply } from '../redis/replies.ts';
import { type Level, OWN_REASONS, type PressureReason, type Reading, SHARED_REASONS } from './pressure.ts';
import { PRESSURE_BOARD } from './pressure-script.ts';

export const PRESSURE_KEY = 'sluice:pressure';
const EVERY_MS = 250;
/**
 * Rounds come further apart the more processes there are, so that what they read of each other doesn't grow
 * with their number squared; with 100 of them it is still within the second.
 */
const EVERY_MS_PER_PROCESS = 8;
const EVERY_MS_MAX = 1_000;
/** Without a call, by Redis' clock. */
const STALE_MS = 2_000;
/** By our own, while Redis is away. */
const KEPT_MS = 5_000;
/** Of an entry's text. What tenants ask for is left out of one that is longer. */
const ENTRY_LENGTH_MAX = 65_536;

/** What a gateway is asked for, by tenant and signal, bytes per second. The shares know what it means. */
export type Demand = Readonly<Record<string, Readonly<Partial<Record<string, number>>>>>;

export interface EntryReading extends Reading {
  readonly level: Level;
}

export interface Entry {
  readonly role: string;
  readonly readings: readonly EntryReading[];
  /** Accepted, as it came over the wire. */
  readonly wireBytesPerSecond: number;
  readonly itemsPerSecond: number;
  readonly tenants: Demand;
}

export interface Posted extends Entry {
  /** Of the process. */
  readonly id: string;
}

export interface PressureBoardOptions {
  readonly redis: RedisCommands;
  readonly id: string;
  /** What this process says, asked for in each round. */
  readonly entry: () => Entry;
  /** Called after each round that has read something. */
  readonly onRead: () => void;
  readonly logger: Logger;
}

export class PressureBoard {
  readonly #options: PressureBoardOptions;
  readonly #stop = new AbortController();
  #keptUp: Promise<void> | undefined;
  #entries: readonly Posted[] = [];
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: PressureBoardOptions) {
    this.#options = options;
  }

  /** Everybody's newest entry, this process' own among them; none when they were read too long ago. */
  get entries(): readonly Posted[] {
    return tickMs() - this.#readAtMs > KEPT_MS ? [] : this.#entries;
  }

  start(): void {
    this.#keptUp ??= this.#keepUp();
  }

  /** Takes the entry away, so that nobody reckons with it until it is stale. Never rejects. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#keptUp;
    if (this.#keptUp !== undefined) await this.#tell('');
  }

  async #keepUp(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#tell(textOf(this.#options.entry()));
      const everyMs = Math.max(EVERY_MS, EVERY_MS_PER_PROCESS * this.#entries.length);
      await sleep(Math.min(everyMs, EVERY_MS_MAX), signal);
    }
  }

  async #tell(text: string): Promise<void> {
    const { redis, id, onRead, logger } = this.#options;
    try {
      const reply = await PRESSURE_BOARD.run(redis, [PRESSURE_KEY], [id, text, STALE_MS]);
      this.#entries = readBoard(reply);
      this.#readAtMs = tickMs();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      logger.debug({ reason: error.message }, 'the board of pressure could not be read');
      return;
    }
    if (text !== '') onRead();
  }
}

function textOf(entry: Entry): string {
  const text = JSON.stringify(entry);
  return text.length <= ENTRY_LENGTH_MAX ? text : JSON.stringify({ ...entry, tenants: {} });
}

/** Entries that this version can't read are left out. */
function readBoard(reply: Reply): Posted[] {
  assert(Array.isArray(reply) && reply.length % 3 === 0, 'the board answers with ids, ages and texts');
  const entries: Posted[] = [];
  for (let i = 0; i < reply.length; i += 3) {
    const entry = parseEntry(String(reply[i]), String(reply[i + 2]));
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

/** Undefined for what is no entry. Readings of reasons that aren't known here are left out. */
export function parseEntry(id: string, text: string): Posted | undefined {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
  if (!isObject(found) || typeof found.role !== 'string' || !Array.isArray(found.readings)) return undefined;
  return {
    id,
    role: found.role,
    readings: found.readings.flatMap((reading) => readingOf(reading) ?? []),
    wireBytesPerSecond: figureOf(found.wireBytesPerSecond) ?? 0,
    itemsPerSecond: figureOf(found.itemsPerSecond) ?? 0,
    tenants: isObject(found.tenants) ? demandOf(found.tenants) : {},
  };
}

const REASONS: readonly PressureReason[] = [...SHARED_REASONS, ...OWN_REASONS];

function readingOf(found: unknown): EntryReading | undefined {
  if (!isObject(found)) return undefined;
  const reason = REASONS.find((known) => known === found.reason);
  const ratio = figureOf(found.ratio);
  if (reason === undefined || ratio === undefined) return undefined;
  const level = found.level === 1 || found.level === 2 ? found.level : 0;
  const value = figureOf(found.value) ?? 0;
  const limit = figureOf(found.limit) ?? 0;
  return { reason, value, limit, ratio, inSeconds: figureOf(found.inSeconds), level };
}

function demandOf(found: Readonly<Record<string, unknown>>): Demand {
  const tenants = Object.entries(found).map(([tenant, signals]) => {
    const rates = isObject(signals) ? Object.entries(signals) : [];
    const figures = rates.map(([signal, rate]) => [signal, figureOf(rate) ?? 0]);
    return [tenant, Object.fromEntries(figures) as Record<string, number>] as const;
  });
  return Object.fromEntries(tenants);
}

function figureOf(found: unknown): number | undefined {
  return typeof found === 'number' && Number.isFinite(found) && found >= 0 ? found : undefined;
}

function isObject(found: unknown): found is Readonly<Record<string, unknown>> {
  return typeof found === 'object' && found !== null && !Array.isArray(found);
}
