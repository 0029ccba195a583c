/** Processes that share a Redis, each with its Pressure, for tests of it. */
import { pino } from 'pino';
import { afterEach, beforeEach } from 'vitest';
import { Books } from '../../src/app/books.ts';
import { Pressure } from '../../src/app/pressure.ts';
import type { Role } from '../../src/app/roles.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import type { BatchStore } from '../../src/queue/batch-store.ts';
import type { StrainReading } from '../../src/write/strain.ts';
import { openStore } from '../queue/support.ts';
import { RedisServer, eventually } from '../redis/server.ts';
import { sample } from '../support/program.ts';
import { settingsOf } from '../support/settings.ts';

export interface Process {
  readonly store: BatchStore;
  readonly books: Books;
  readonly pressure: Pressure;
  readonly lines: Record<string, unknown>[];
  readonly strain: { readings: StrainReading[] };
  readonly instruments: ReturnType<typeof createInstruments>;
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  text(): Promise<string>;
}

/** Both anew for each test. */
export let server: RedisServer;
export let all: Process[];

export function useProcesses(): void {
  beforeEach(async () => {
    server = await RedisServer.start();
    all = [];
  });
  afterEach(async () => {
    for (const { books, pressure, store } of all) {
      await pressure.stop();
      books.close();
      store.close();
    }
    await server.remove();
  });
}

/** How late this event loop is, and how long it waits for Redis, says more about the machine than about the program. */
const PATIENT = { SLUICE_PRESSURE_EVENT_LOOP_MS_MAX: '60000' };
const REDIS_MS_MAX = 30_000;

/** Not started: nothing is told or asked by itself, but the books are read once a second. */
export async function begin(
  role: Role = 'gateway',
  environment: Readonly<Record<string, string>> = {},
): Promise<Process> {
  const settings = settingsOf({ ...PATIENT, ...environment });
  const store = await openStore({ ...server.settings, timeoutMs: REDIS_MS_MAX });
  const instruments = createInstruments();
  const lines: Record<string, unknown>[] = [];
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const books = new Books(store, () => 1, instruments, logger);
  const strain = { readings: [] as StrainReading[] };
  const pressure = new Pressure({
    store,
    books,
    settings: () => settings,
    role,
    instruments,
    logger,
    strain,
  });
  const text = () => instruments.registry.metrics();
  const metric: Process['metric'] = async (name, labels = {}) =>
    sample(await text(), `sluice_${name}`, labels);
  const made = { store, books, pressure, lines, strain, instruments, metric, text };
  all.push(made);
  return made;
}

/** What a script has booked. */
export async function book(bytes: number, figures: Readonly<Record<string, number>> = {}): Promise<void> {
  const [first] = all;
  const fields = Object.entries({ bytes, ...figures }).flat();
  await first?.store.redis.command(['HSET', '{s0}:counts', ...fields], '{s0}:');
}

/**
 * The same, and resolves when the process has read it: a look of its own shortly before would be taken for the newest
 * one for a while.
 */
export async function bookAndRead(
  { books }: Process, bytes: number, figures: Readonly<Record<string, number>> = {},
): Promise<void> {
  let readBytes = 0;
  books.onRead((shards) => {
    readBytes = shards.reduce((sum, { queueBytes, deadBytes }) => sum + queueBytes + deadBytes, 0);
  });
  await book(bytes, figures);
  await eventually(async () => {
    await books.refresh();
    return readBytes === bytes + (figures.deadBytes ?? 0);
  }, `${bytes} bytes in the books`);
}

export const reasonOf = ({ pressure }: Process) => {
  const verdict = pressure.verdict();
  return verdict?.kind === 'later' ? verdict.reason : undefined;
};
export const words = ({ lines }: Process) => lines.map(({ msg }) => String(msg));
