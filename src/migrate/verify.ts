/**
 * Each host's real tables against the declared ones. Declared is what the migrations say that were recorded
 * on any host: what is still pending everywhere is apply's business, and named as such.
 */
import type { MigrateContext } from './context.ts';
import { type Declared, foldStatements } from './declared.ts';
import { type DiffFacts, diffTable } from './diff.ts';
import type { Difference, HostVerification } from './difference.ts';
import { LEDGER_TABLE } from './ledger.ts';
import type { Migration } from './migration.ts';
import { localName, localTableOf, ttlOf } from './placeholders.ts';
import { planHistory } from './plan.ts';
import { type RealState, formatted, readReal } from './real.ts';
import { planReconcile } from './reconcile.ts';
import { renderMigration } from './render.ts';
import { replicationDifferences } from './replication.ts';
import { fullName } from './state.ts';
import { type HostView, survey } from './survey.ts';

/** A host with what it should have and what it has. */
export interface Verified {
  readonly view: HostView;
  readonly declared: Declared;
  readonly real: RealState;
  readonly verification: HostVerification;
}

/**
 * Changes nothing. The hosts of the context in their order, then the missing ones.
 * @throws ConfigurationError when the migrations can't be read, Fault when a host can't be asked
 */
export async function verifyHosts(context: MigrateContext): Promise<HostVerification[]> {
  const verified = await verifyAll(context);
  return [...verified.map(({ verification }) => verification), ...missingHosts(context)];
}

/** The hosts that answer. @throws as verifyHosts */
export async function verifyAll(context: MigrateContext): Promise<Verified[]> {
  const { views, migrations, optional } = await survey(context);
  const recorded = recordedMigrations(migrations, views);
  const isWhole = migrations.every((each) => each.origin !== 'sluice' || recorded.includes(each));
  const [on, off] = [true, false].map((wanted) =>
    isWhole ? optional.filter(({ isOn }) => isOn === wanted).map(({ migration }) => migration) : [],
  ) as [Migration[], Migration[]];
  const told = [...recorded, ...on];
  const seen = await Promise.all(views.map((view) => lookAt(view, told, off, context)));
  return Promise.all(
    seen.map(async ({ view, declared, kept, real }) => {
      const facts = { real, version: view.info.version, ttlElsewhere: ttlElsewhere(recorded, context) };
      const differences = [
        ...ledgerDifferences(view, migrations),
        ...tableDifferences(declared, kept, facts),
        ...(await ttlDifferences(view, recorded)),
        ...replicationDifferences({ view, real }, seen, declared),
      ];
      const sorted = byTable(differences, declared);
      const { name: host, shard, replica } = view;
      const verification = { host, shard, replica, differences: sorted, unverified: declared.unverified };
      return { view, declared, real, verification };
    }),
  );
}

/** Those that any host has in its ledger. */
export function recordedMigrations(
  migrations: readonly Migration[],
  views: readonly HostView[],
): readonly Migration[] {
  const entries = views.flatMap(({ ledger }) => ledger.entries);
  return migrations.filter(({ origin, number }) =>
    entries.some((entry) => entry.origin === origin && entry.number === number),
  );
}

/** @param off what was switched off, and stays where it is there */
async function lookAt(
  view: HostView,
  migrations: readonly Migration[],
  off: readonly Migration[],
  context: MigrateContext,
) {
  const rendered = (all: readonly Migration[]) =>
    all.flatMap((migration) => renderMigration(migration, view.render)).map(({ sql }) => sql);
  const statements = rendered(migrations);
  const texts = await formatted(view.server, [...statements, ...rendered(off)]);
  const declared = foldStatements(texts.slice(0, statements.length));
  const kept = off.length === 0 ? undefined : foldStatements(texts);
  const databases = new Set([
    context.database,
    ...[...declared.tables.values()].map(({ database }) => database),
  ]);
  return { view, declared, kept, real: await readReal(view.server, [...databases]) };
}

function missingHosts({ missing }: MigrateContext): HostVerification[] {
  return missing.map(({ host, shard, replica, why }) => {
    const note = `it could not be asked: ${why}`;
    const difference: Difference = {
      kind: 'unreachable',
      severity: 'error',
      ...{ table: '', item: '', declared: '', real: '', note, remedy: undefined },
    };
    return { host, shard, replica, differences: [difference], unverified: [] };
  });
}

function ledgerDifferences({ ledger }: HostView, migrations: readonly Migration[]): Difference[] {
  const { pending, refusals } = planHistory(migrations, ledger.entries);
  const about = (item: string, note: string): Difference => ({
    kind: 'ledger',
    severity: 'error',
    ...{ table: '', item, declared: '', real: '', note, remedy: undefined },
  });
  return [
    ...refusals.map((refusal) => about('', refusal)),
    ...pending.map(({ name }) => about(name, `is not in the ledger (${LEDGER_TABLE}) of this host`)),
  ];
}

/** @param kept with what was switched off: a table that is as declared there is in order */
function tableDifferences(declared: Declared, kept: Declared | undefined, facts: DiffFacts): Difference[] {
  return [...declared.tables].flatMap(([key, table]): Difference[] => {
    const real = facts.real.tables.get(key);
    if (real !== undefined) {
      const other = kept?.tables.get(key);
      const asKept = other === undefined ? undefined : diffTable(other, real, facts);
      return asKept?.every(isHarmless) ? asKept : diffTable(table, real, facts);
    }
    const what = table.kind === 'view' ? 'the view' : 'the table';
    const about = { table: key, item: '', declared: '', real: '', remedy: undefined };
    return [{ kind: 'missing table', severity: 'error', note: `${what} is not there`, ...about }];
  });
}

const isHarmless = ({ severity }: Difference) => severity !== 'error';

/** Local tables whose migration says `{ttl:…}`. */
function ttlElsewhere(migrations: readonly Migration[], { database, layout }: MigrateContext): Set<string> {
  const texts = migrations.flatMap(({ steps }) => steps).map(({ text }) => text);
  const tables = texts.filter((text) => ttlOf(text) !== undefined).map((text) => localTableOf(text) ?? '');
  return new Set(tables.map((table) => fullName({ database, table: localName(table, layout) })));
}

async function ttlDifferences(
  { server, render }: HostView,
  migrations: readonly Migration[],
): Promise<Difference[]> {
  const { changes, foreign } = await planReconcile(server, migrations, render);
  const { database } = render;
  const ttls = changes.filter(({ what }) => what === 'ttl');
  return [
    ...ttls.map(({ table, from, to, cost, sql, settings }): Difference => {
      const name = fullName({ database, table });
      const remedy = { cost, sql, settings };
      return {
        kind: 'ttl',
        severity: 'error',
        table: name,
        item: '',
        declared: to,
        real: from,
        note: '',
        remedy,
      };
    }),
    ...foreign.map((table): Difference => {
      const name = fullName({ database, table });
      const note = 'was written by hand and stays';
      const about = { item: '', declared: '', real: '', remedy: undefined };
      return { kind: 'ttl', severity: 'info', table: name, note, ...about };
    }),
  ];
}

/** What is about no table first, then table by table as they are declared, errors before the rest. */
function byTable(differences: readonly Difference[], { tables }: Declared): Difference[] {
  const order = ['', ...tables.keys()];
  const rank = ({ table, severity }: Difference) => 2 * order.indexOf(table) + (severity === 'info' ? 1 : 0);
  return [...differences].sort((a, b) => rank(a) - rank(b));
}

export type { Difference, HostVerification } from './difference.ts';
