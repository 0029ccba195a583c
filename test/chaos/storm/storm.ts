/** One storm from its seed to its report. */
import { rmSync } from 'node:fs';
import { sleep, tickMs } from '../../../src/base/clock.ts';
import { Fault } from '../../../src/base/errors.ts';
import { SIGNALS, type Signal } from '../../../src/model/signal.ts';
import { makeTempDir } from '../../support/services.ts';
import { type Audit, type Book, auditStorm, judgeBooks, readBooks } from './audit.ts';
import { Faults } from './faults.ts';
import { Load } from './load.ts';
import { drawPlan } from './plan.ts';
import type { Variant } from './redis.ts';
import { type StormReport, countFaults, examplesOf } from './report.ts';
import { type World, startWorld } from './world.ts';

export interface StormOptions {
  readonly seed: number;
  /** Of the load; faults come in this time. */
  readonly seconds: number;
  readonly faults: number;
  /** Acknowledged at the least. */
  readonly records: number;
  readonly clients: number;
  readonly variant: Variant;
  /** Whether data and logs stay although all went well; they always do when something is wrong. */
  readonly keep: boolean;
  readonly log: (text: string) => void;
}

const LOOK_EVERY_MS = 1_000;
const SAY_EVERY_MS = 5_000;
/** What waits when all is healed is written by then, or something is stuck; longer after a long storm. */
const DRAIN_MS_MAX = 180_000;
const DRAIN_SHARE_MAX = 0.5;
const DRAIN_POLL_MS = 250;
const END_MS_MAX = 30_000;
const DUPLICATES = 'items_duplicate_total';

/** @throws Error when the world can't be built or healed */
export async function runStorm(options: StormOptions): Promise<StormReport> {
  const { log } = options;
  const dir = makeTempDir();
  log(`seed ${options.seed}, data and logs in ${dir}`);
  const incidents: string[] = [];
  let world: World | undefined;
  let kept: string | undefined = dir;
  try {
    const incident = (text: string) => {
      incidents.push(text);
      log(`incident: ${text}`);
    };
    world = await startWorld({ dir, variant: options.variant, incident });
    const report = await weather(options, world, incidents);
    if (report.wrong.length === 0 && !options.keep) kept = undefined;
    return { ...report, kept };
  } finally {
    await world?.stop();
    if (kept === undefined) rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }
}

async function weather(options: StormOptions, world: World, incidents: string[]): Promise<StormReport> {
  const { log } = options;
  const load = new Load(world, options);
  const faults = new Faults(world, log, (text) => incidents.push(text));
  const plan = drawPlan({ ...options, redisLinks: world.redisLinks });
  const sending = load.run();
  const breaking = faults.run(plan);
  await watch(options, world, load, faults);
  await breaking;
  const seconds = Math.round(load.tally.nowMs / 1000);
  load.stop();
  log('everything is healed now; clients finish, and what waits is written');
  await faults.heal();
  const healedAtMs = tickMs();
  await sending;
  const drainMsMax = Math.max(DRAIN_MS_MAX, seconds * 1000 * DRAIN_SHARE_MAX);
  const { books, waitedMs } = await drained(world, healedAtMs, drainMsMax);
  await look(world);
  for (const role of world.roles.values()) {
    const complaint = await role.drain(END_MS_MAX);
    if (complaint !== undefined) incidents.push(complaint);
  }
  log('counting');
  const audit = await auditStorm(world, load.ledger);
  return compose(options, { load, faults, audit, books, incidents, seconds, drainMs: waitedMs, world });
}

/** Until the load is done; says now and then how things are. */
async function watch({ log }: StormOptions, world: World, load: Load, faults: Faults): Promise<void> {
  let saidAtMs = tickMs();
  while (!load.done) {
    await sleep(LOOK_EVERY_MS);
    await look(world);
    if (tickMs() - saidAtMs < SAY_EVERY_MS) continue;
    saidAtMs = tickMs();
    const { nowMs, resends } = load.tally;
    log(
      `${Math.round(nowMs / 1000)} s: ${load.ledger.acknowledgedRecords} records acknowledged, ` +
        `${faults.happened.length} faults (${faults.active.length} now), ${resends} resends`,
    );
  }
}

async function look({ roles, clickhouse }: World): Promise<void> {
  await Promise.all([
    ...[...roles.values()].map((role) => role.look([DUPLICATES])),
    ...clickhouse.map((server) => server.mend()),
  ]);
}

/** Waits until nothing waits. */
async function drained(world: World, healedAtMs: number, msMax: number) {
  for (;;) {
    const books = await readBooks(world).catch((error: unknown) => {
      if (error instanceof Fault) return undefined;
      throw error;
    });
    const waitedMs = Math.round(tickMs() - healedAtMs);
    const waiting = books === undefined || SIGNALS.some((signal) => books[signal].waiting !== 0);
    if (books !== undefined && (!waiting || waitedMs > msMax)) return { books, waitedMs };
    await look(world);
    await sleep(DRAIN_POLL_MS);
  }
}

interface Ended {
  readonly load: Load;
  readonly faults: Faults;
  readonly audit: Audit;
  readonly books: Record<Signal, Book>;
  readonly incidents: readonly string[];
  readonly seconds: number;
  readonly drainMs: number;
  readonly world: World;
}

function compose(options: StormOptions, ended: Ended): StormReport {
  const { load, faults, audit, books, world, seconds, drainMs } = ended;
  const { tally, ledger } = load;
  const sum = (of: keyof Audit['signals'][Signal]) =>
    SIGNALS.reduce((all, signal) => all + audit.signals[signal][of], 0);
  const nameOf = (client: number) => load.clients[client]?.name ?? `client ${client}`;
  const { seed, variant, faults: count, records, seconds: wanted } = options;
  return {
    seed,
    variant,
    seconds,
    again:
      `make test-chaos ARGS="--seed ${seed} --seconds ${wanted} --faults ${count} --records ${records} ` +
      `--variant ${variant}"`,
    faults: countFaults(faults.happened),
    faultsDone: faults.happened.filter(({ missed }) => missed === undefined).length,
    faultsMissed: faults.happened.filter(({ missed }) => missed !== undefined).length,
    answers: Object.fromEntries([...tally.answers].sort(([, one], [, other]) => other.count - one.count)),
    requests: ledger.requests,
    acknowledgedRecords: sum('acknowledged'),
    unknownRecords: sum('unknown'),
    unknownStored: sum('unknownStored'),
    ...pick(tally),
    duplicateItemsAtLeast: [...world.roles.values()].reduce((all, role) => all + role.counted(DUPLICATES), 0),
    drainMs,
    clickhouseCrashes: world.clickhouse.reduce((all, { crashes }) => all + crashes, 0),
    missing: sum('missing'),
    doubled: sum('doubled'),
    invented: sum('invented'),
    damaged: sum('damaged'),
    tracesWithoutRange: audit.tracesWithoutRange,
    signals: audit.signals,
    books,
    wrong: wrongs(options, ended, sum),
    examples: examplesOf(audit.found, nameOf, faults.happened),
    kept: undefined,
  };
}

function pick({ resends, repeats, hedges, vanished, gaveUp, refusedForGood, ...rest }: Load['tally']) {
  const { longestSilenceMs, longestSilenceFromMs } = rest;
  return {
    resends, repeats, hedges, vanished, gaveUp, refusedForGood, longestSilenceMs, longestSilenceFromMs,
  };
}

/** Everything that breaks a promise, in words. */
function wrongs(
  { records }: StormOptions,
  { load, audit, books, incidents }: Ended,
  sum: (of: keyof Audit['signals'][Signal]) => number,
): string[] {
  const wrong = (['missing', 'doubled', 'invented', 'damaged'] as const)
    .filter((of) => sum(of) > 0)
    .map((of) => `${sum(of)} records are ${of}`);
  const { tracesWithoutRange } = audit;
  if (tracesWithoutRange > 0) wrong.push(`${tracesWithoutRange} traces have no time range`);
  for (const signal of SIGNALS) {
    const { waiting } = books[signal];
    if (waiting !== 0) wrong.push(`${waiting} ${signal} still wait`);
  }
  const { refusedForGood, gaveUp } = load.tally;
  if (refusedForGood > 0) wrong.push(`${refusedForGood} requests were refused for good`);
  if (gaveUp > 0) wrong.push(`${gaveUp} requests got no acknowledgement in time`);
  const acknowledged = load.ledger.acknowledgedRecords;
  if (acknowledged < records) wrong.push(`only ${acknowledged} of ${records} records were acknowledged`);
  return [...wrong, ...judgeBooks(books, audit), ...incidents];
}
