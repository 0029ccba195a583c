/**
 * What there is to do, from the migrations of the folder and what a host's ledger says was applied. Pure. A
 * history that doesn't fit the ledger is refused by name: a migration that was applied is never changed,
 * taken out or put at another place, because then no two installations would have the same tables any more.
 */
import type { HostLedger, LedgerEntry } from './ledger.ts';
import { type Migration, ORIGINS, type Origin } from './migration.ts';

export interface HistoryPlan {
  /** In the order in which they are to be applied. Empty when anything is refused. */
  readonly pending: readonly Migration[];
  /** One sentence each, with what to do. */
  readonly refusals: readonly string[];
}

export function planHistory(migrations: readonly Migration[], ledger: readonly LedgerEntry[]): HistoryPlan {
  const refusals = ORIGINS.flatMap((origin) =>
    refusalsOf(
      migrations.filter((migration) => migration.origin === origin),
      ledger.filter((entry) => entry.origin === origin),
    ),
  );
  if (refusals.length > 0) return { pending: [], refusals };
  const isApplied = (migration: Migration) =>
    ledger.some(({ origin, number }) => origin === migration.origin && number === migration.number);
  return { pending: migrations.filter((migration) => !isApplied(migration)), refusals };
}

export interface NamedLedger extends HostLedger {
  readonly host: string;
}

/** What the ledgers of all hosts say together. */
export interface ClusterPlan {
  /** One sentence each, by host. */
  readonly refusals: ReadonlyMap<string, readonly string[]>;
  /** Recorded on no host: their steps are run. In order; empty when anything is refused. */
  readonly pending: readonly Migration[];
  /**
   * By host: recorded elsewhere, and the last of its history there. A migration is recorded only after every
   * host has all of it, so what an interruption can leave is a missing row.
   */
  readonly unrecorded: ReadonlyMap<string, readonly Migration[]>;
  /** Hosts that lack more than that, and what: they are new, lost their disk, or were away for long. */
  readonly behind: ReadonlyMap<string, readonly string[]>;
}

/** Compares the ledgers of all hosts with the folders and with each other. Pure. */
export function planCluster(migrations: readonly Migration[], ledgers: readonly NamedLedger[]): ClusterPlan {
  const refusals = new Map<string, readonly string[]>();
  const unrecorded = new Map<string, readonly Migration[]>();
  const behind = new Map<string, readonly string[]>();
  const everywhere = new Map(ledgers.flatMap(({ entries }) => entries.map((entry) => [keyOf(entry), entry])));
  for (const ledger of ledgers) {
    const plan = planHistory(migrations, ledger.entries);
    if (plan.refusals.length > 0) refusals.set(ledger.host, plan.refusals);
    const missing = plan.pending.filter((migration) => everywhere.has(keyOf(migration)));
    const old = missing.filter((migration) => !ledger.exists || !isLast(migration, [...everywhere.values()]));
    if (old.length > 0)
      behind.set(
        ledger.host,
        missing.map(({ name }) => name),
      );
    else if (missing.length > 0) unrecorded.set(ledger.host, missing);
  }
  const pending = migrations.filter((migration) => !everywhere.has(keyOf(migration)));
  return { refusals, pending: refusals.size > 0 ? [] : pending, unrecorded, behind };
}

type Key = { readonly origin: Origin; readonly number: number };

const keyOf = ({ origin, number }: Key) => `${origin} ${number}`;

function isLast({ origin, number }: Key, recorded: readonly Key[]): boolean {
  return recorded.every((entry) => entry.origin !== origin || entry.number <= number);
}

function refusalsOf(migrations: readonly Migration[], applied: readonly LedgerEntry[]): string[] {
  const last = Math.max(0, ...applied.map(({ number }) => number));
  const refusals: string[] = [];
  for (const entry of applied) {
    const file = migrations.find(({ number }) => number === entry.number);
    const moved = migrations.find(({ checksum }) => checksum === entry.checksum);
    if (file?.checksum === entry.checksum && file.name === entry.name) continue;
    if (moved !== undefined) {
      refusals.push(
        `${entry.name} was applied on ${entry.appliedAt} and is now called ${moved.name}: ` +
          'migrations were renamed or reordered, give it its old name again',
      );
    } else if (file === undefined) {
      refusals.push(
        `${entry.name} was applied on ${entry.appliedAt} and is missing in the folder: put it back`,
      );
    } else {
      refusals.push(
        `${file.name} was edited after ${entry.name} was applied on ${entry.appliedAt} (checksum ` +
          `${file.checksum.slice(0, 12)}, applied was ${entry.checksum.slice(0, 12)}): undo the edit ` +
          'and put the change into a new migration',
      );
    }
  }
  for (const { number, name } of migrations) {
    if (number < last && !applied.some((entry) => entry.number === number)) {
      refusals.push(
        `${name} was never applied, but number ${String(last).padStart(4, '0')} was: ` +
          'a new migration gets the next free number',
      );
    }
  }
  return refusals;
}
