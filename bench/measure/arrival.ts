/**
 * After the load: waits until what was acknowledged is in ClickHouse, and until ClickHouse has come to rest.
 */
import { sleep, tickMs } from '../../src/base/clock.ts';
import type { Signal } from '../../src/model/signal.ts';
import type { Window } from '../identity.ts';
import type { Audit, Ledger } from '../send/ledger.ts';
import type { Accounting } from './accounting.ts';

/** A look costs ClickHouse some 2 ms of CPU, which is part of what is measured. */
const POLL_MS = 100;
const SETTLE_POLL_MS = 1_000;
/** Merges are chosen every few seconds: so long nothing may have begun. */
const REST_MS = 6_000;
/**
 * An exact count reads every id: it may take this share of the time at most, so as not to hinder what it
 * waits for.
 */
const EXACT_SHARE = 5;
const EXACT_MS_MIN = 1_000;

export interface Sent {
  readonly signal: Signal;
  readonly ledger: Ledger;
}

/** The run, and how many rows were there before it. */
export interface Expectation {
  readonly sent: readonly Sent[];
  readonly run: number;
  readonly window: Window;
  readonly rowsBefore: number;
  /** Rows that the probe of the freshness has added so far. */
  readonly probeRows: () => number;
}

/**
 * Waits until there are as many rows more as were acknowledged, looking at metadata only.
 * @returns when they were there, by tickMs(); undefined when they were not within `msMax`: other writers,
 *   deleted rows and clusters make that count useless, and then the exact one decides
 * @throws Fault
 */
export async function waitForRows(accounting: Accounting, wanted: Expectation, msMax: number) {
  const signals = wanted.sent.map(({ signal }) => signal);
  const acknowledged = wanted.sent.reduce((sum, { ledger }) => sum + ledger.acknowledgedItems, 0);
  const deadlineMs = tickMs() + msMax;
  for (;;) {
    const rows = await accounting.rowCount(signals);
    if (rows >= wanted.rowsBefore + acknowledged + wanted.probeRows()) return tickMs();
    if (tickMs() > deadlineMs) return undefined;
    await sleep(POLL_MS);
  }
}

/**
 * Counts exactly, again and again until nothing acknowledged is missing or `msMax` is over.
 * @returns the audits in the order of `sent`, and when the last count was done
 * @throws Fault
 */
export async function waitForItems(accounting: Accounting, wanted: Expectation, msMax: number) {
  const deadlineMs = tickMs() + msMax;
  for (;;) {
    const beganMs = tickMs();
    const audits: Audit[] = [];
    for (const { signal, ledger } of wanted.sent) {
      audits.push(ledger.audit(await accounting.requests(signal, wanted.run, wanted.window)));
    }
    const now = tickMs();
    if (audits.every(({ missing }) => missing === 0) || now > deadlineMs) return { audits, atMs: now };
    await sleep(Math.max(EXACT_MS_MIN, (now - beganMs) * EXACT_SHARE));
  }
}

/**
 * Waits until no merge runs and no part has changed for a while.
 * @returns whether that came about within `msMax`
 * @throws Fault
 */
export async function waitForRest(accounting: Accounting, signals: readonly Signal[], msMax: number) {
  const deadlineMs = tickMs() + msMax;
  let restsSinceMs = tickMs();
  let parts = '';
  for (;;) {
    const now = tickMs();
    const activity = await accounting.activity(signals);
    if (activity.merges > 0 || activity.parts !== parts) restsSinceMs = now;
    parts = activity.parts;
    if (now - restsSinceMs >= REST_MS) return true;
    if (now > deadlineMs) return false;
    await sleep(SETTLE_POLL_MS);
  }
}
