/** One run from the corpus to the report: build, send, wait, count. */
import { randomInt } from 'node:crypto';
import { tickMs } from '../src/base/clock.ts';
import type { Signal } from '../src/model/signal.ts';
import { createCorpus } from './corpus.ts';
import { runName } from './corpus/words.ts';
import { windowOfToday, type Window } from './identity.ts';
import { Lane, Load, type Trouble } from './load.ts';
import { Accounting } from './measure/accounting.ts';
import { type Expectation, waitForItems, waitForRest, waitForRows } from './measure/arrival.ts';
import { type Freshness, FreshnessProbe } from './measure/freshness.ts';
import type { LatencyMs } from './measure/latency.ts';
import { type ProcessFigures, ProcessWatch } from './measure/processes.ts';
import { CLICKHOUSE, rolesOf } from './measure/roles.ts';
import type { BenchOptions } from './options.ts';
import { GrpcConnection } from './send/grpc.ts';
import { HttpSender } from './send/http.ts';
import type { Audit } from './send/ledger.ts';
import { formatOf, type Sender } from './send/sender.ts';

/** Different requests of a signal; so many that compressors don't see the same one twice in their window. */
const TEMPLATES_MIN = 40;
const PROGRESS_MS = 1000;

export interface BenchReport {
  /** By which its data can be found: resource attribute `bench.run`. */
  readonly run: string;
  readonly seconds: number;
  readonly requests: number;
  readonly acknowledged: { readonly requests: number; readonly items: number; readonly bytes: number };
  readonly itemsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly rejectedItems: number;
  readonly retries: number;
  readonly latencyMs: LatencyMs;
  readonly troubles: Readonly<Record<string, Trouble>>;
  /** Of the load generator itself while it was sending. */
  readonly generatorCpuSeconds: number;
  readonly processes: readonly ProcessFigures[];
  /** Sum of the resident memory of all processes but ClickHouse and Redis, once a second while sending. */
  readonly rssBytes: readonly number[];
  /** undefined without ClickHouse. */
  readonly storage: Storage | undefined;
  readonly freshnessMs: Freshness | undefined;
}

export interface Storage {
  readonly signals: Readonly<Partial<Record<Signal, Audit>>>;
  readonly missing: number;
  readonly doubled: number;
  /**
   * From the last answer until the last item was there; a bound from above when only the exact count could
   * tell.
   */
  readonly lastItemSeconds: number;
  /**
   * Acknowledged items that are stored, by the time from the first request until the last of them was there.
   */
  readonly itemsPerSecond: number;
  /** Whether merges had come to rest; undefined when it wasn't waited for. */
  readonly settled: boolean | undefined;
}

/** For who watches a run: called once a second while it sends. */
export interface Progress {
  readonly seconds: number;
  readonly itemsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly latencyMs: LatencyMs;
  readonly troubles: number;
  readonly retries: number;
}

export interface Watcher {
  progress(progress: Progress): void;
  note(text: string): void;
  /** Called with what ends the sending early. @returns what to call when it is over */
  started?(stop: () => void): () => void;
}

/**
 * Runs the load and gives the figures; whether they are good is the caller's to say.
 * @throws Fault when ClickHouse could not be asked
 */
export async function runBench(options: BenchOptions, watcher: Watcher): Promise<BenchReport> {
  const run = randomInt(1, 2 ** 32 - 1);
  const window = windowOfToday(Date.now());
  const pool = openSenders(options);
  const accounting =
    options.clickhouse === undefined ? undefined : new Accounting(options.clickhouse, options.database);
  try {
    const load = new Load(lanesOf(options, run, window, pool.senders.length), options);
    if (accounting !== undefined && options.settleMs > 0) {
      watcher.note('waiting for the merges of earlier data');
      await waitForRest(accounting, options.signals, options.settleMs);
    }
    const rowsBefore = (await accounting?.rowCount(options.signals)) ?? 0;
    const probe = accounting && probeOf(options, run, window, pool.probe, accounting);
    const watch = new ProcessWatch(rolesOf(options));
    watcher.note(`run ${runName(run)}: sending ${options.signals.join(', ')} as ${options.protocol}`);
    const ended = watcher.started?.(() => load.stop());
    probe?.start();
    const sending = await send(load, pool.senders, watch, watcher).finally(ended);
    const sent = load.lanes.map(({ signal, ledger }) => ({ signal, ledger }));
    const wanted: Expectation = { sent, run, window, rowsBefore, probeRows: () => probe?.rows ?? 0 };
    const [storage, freshnessMs] = await Promise.all([
      accounting && storageOf(accounting, wanted, options, load, watch, watcher),
      probe?.stop(options.waitMs),
    ]);
    if (storage === undefined) watch.sample();
    return { ...reportOf(run, load), ...sending, processes: watch.figures(), storage, freshnessMs };
  } finally {
    pool.close();
    await accounting?.close();
  }
}

/** The senders of the load, and one more for the probe. */
function openSenders(options: BenchOptions): { senders: Sender[]; probe: Sender; close(): void } {
  const { protocol, compression, targets, connections, streams, timeoutMs } = options;
  const open = (index: number): (() => Sender) => {
    const target = targets[index % targets.length];
    if (target === undefined) throw new Error('there is a target');
    const senderOptions = { target, format: formatOf(protocol), compression, timeoutMs };
    if (protocol !== 'grpc') return () => new HttpSender(senderOptions);
    const connection = new GrpcConnection(senderOptions);
    return () => connection.sender();
  };
  const senders = Array.from({ length: connections }, (_, index) => {
    const next = open(index);
    return Array.from({ length: streams }, next);
  }).flat();
  const probe = open(0)();
  const close = (): void => {
    for (const sender of [...senders, probe]) sender.close();
  };
  return { senders, probe, close };
}

function lanesOf(options: BenchOptions, run: number, window: Window, senders: number): Lane[] {
  const { seed, requestItems, protocol } = options;
  const requests = Math.max(TEMPLATES_MIN, senders);
  return options.signals.map((signal) => {
    const format = formatOf(protocol);
    return new Lane(signal, createCorpus({ signal, format, seed, requests, requestItems, run, window }));
  });
}

function probeOf(options: BenchOptions, run: number, window: Window, sender: Sender, accounting: Accounting) {
  const { signals, protocol, compression, freshnessMs } = options;
  if (freshnessMs === 0) return undefined;
  return new FreshnessProbe(
    { signals, protocol, compression, run, window, everyMs: freshnessMs },
    sender,
    accounting,
  );
}

const isSluice = (role: string): boolean => role !== CLICKHOUSE && role !== 'redis';

async function send(load: Load, senders: readonly Sender[], watch: ProcessWatch, watcher: Watcher) {
  const { statistics } = load;
  const rssBytes: number[] = [];
  let before = { atMs: tickMs(), items: 0, bytes: 0 };
  const timer = setInterval(() => {
    const now = { atMs: tickMs(), items: statistics.acknowledgedItems, bytes: statistics.acknowledgedBytes };
    const seconds = (now.atMs - before.atMs) / 1000;
    watch.sample();
    rssBytes.push(watch.rssBytes(isSluice));
    watcher.progress({
      seconds: (now.atMs - statistics.startedAtMs) / 1000,
      itemsPerSecond: (now.items - before.items) / seconds,
      bytesPerSecond: (now.bytes - before.bytes) / seconds,
      latencyMs: statistics.recent.summary(),
      troubles: [...statistics.troubles.values()].reduce((sum, { count }) => sum + count, 0),
      retries: statistics.retries,
    });
    statistics.recent.reset();
    before = now;
  }, PROGRESS_MS);
  const cpu = process.cpuUsage();
  try {
    await load.run(senders);
  } finally {
    clearInterval(timer);
  }
  const { user, system } = process.cpuUsage(cpu);
  return { generatorCpuSeconds: (user + system) / 1e6, rssBytes };
}

/**
 * The order matters: CPU is read before the exact count, which costs ClickHouse more than many an insert;
 * that of ClickHouse after its merges, all others' as soon as the rows are there.
 */
async function storageOf(
  accounting: Accounting,
  wanted: Expectation,
  options: BenchOptions,
  load: Load,
  watch: ProcessWatch,
  watcher: Watcher,
): Promise<Storage> {
  const { startedAtMs, endedAtMs } = load.statistics;
  watcher.note('waiting for the rows in ClickHouse');
  const rowsAtMs = await waitForRows(accounting, wanted, options.waitMs);
  watch.sample();
  let settled: boolean | undefined;
  if (options.settleMs > 0) {
    watcher.note("waiting for ClickHouse's merges");
    settled = await waitForRest(accounting, options.signals, options.settleMs);
    watch.sample((role) => role === CLICKHOUSE);
  }
  watcher.note('counting every item in ClickHouse');
  const { audits, atMs } = await waitForItems(
    accounting,
    wanted,
    rowsAtMs === undefined ? 0 : options.waitMs,
  );
  const sum = (figure: (audit: Audit) => number): number =>
    audits.reduce((total, audit) => total + figure(audit), 0);
  const lastAtMs = Math.max(rowsAtMs ?? atMs, endedAtMs);
  return {
    signals: Object.fromEntries(wanted.sent.map(({ signal }, index) => [signal, audits[index]])),
    missing: sum(({ missing }) => missing),
    doubled: sum(({ doubled }) => doubled),
    lastItemSeconds: (lastAtMs - endedAtMs) / 1000,
    itemsPerSecond: sum(({ stored }) => stored) / ((lastAtMs - startedAtMs) / 1000),
    settled,
  };
}

function reportOf(run: number, load: Load) {
  const { statistics } = load;
  const seconds = (statistics.endedAtMs - statistics.startedAtMs) / 1000;
  const { acknowledgedRequests: requests, acknowledgedItems: items, acknowledgedBytes: bytes } = statistics;
  return {
    run: runName(run),
    seconds,
    requests: statistics.requests,
    acknowledged: { requests, items, bytes },
    itemsPerSecond: items / seconds,
    bytesPerSecond: bytes / seconds,
    rejectedItems: statistics.rejectedItems,
    retries: statistics.retries,
    latencyMs: statistics.latency.summary(),
    troubles: Object.fromEntries(statistics.troubles),
  };
}
