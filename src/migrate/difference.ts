/** What verify finds, as data and as lines for people. Pure. */
import type { StepCost } from './migration.ts';

export type DifferenceKind =
  | 'unreachable'
  | 'ledger'
  | 'missing table'
  | 'missing column'
  | 'extra column'
  | 'type'
  | 'default'
  | 'codec'
  | 'column order'
  | 'index'
  | 'rule'
  | 'order key'
  | 'primary key'
  | 'partition key'
  | 'sampling key'
  | 'ttl'
  | 'setting'
  | 'engine'
  | 'replication'
  | 'view'
  | 'distributed';

/** What would bring a table closer to the declared state. */
export interface Remedy {
  /** Only what is `instant` is run by repair. */
  readonly cost: StepCost;
  readonly sql: string;
  readonly settings: Readonly<Record<string, number>>;
}

export interface Difference {
  readonly kind: DifferenceKind;
  /** `info`: nothing has to be done, and `verify` is content. */
  readonly severity: 'error' | 'info';
  /** `database.table`; empty where it isn't about one. */
  readonly table: string;
  /** The column, index or setting; empty where it is about the table itself. */
  readonly item: string;
  /** As SQL, empty where nothing is declared or nothing is there. */
  readonly declared: string;
  readonly real: string;
  /** What it means or what to do, where that doesn't follow from the rest; else empty. */
  readonly note: string;
  readonly remedy: Remedy | undefined;
}

export interface HostVerification {
  readonly host: string;
  readonly shard: number;
  readonly replica: number;
  readonly differences: readonly Difference[];
  /** Declared, but nobody looked whether it is so. */
  readonly unverified: readonly string[];
}

/** What `schema_drift{host}` counts. */
export function driftOf({ differences }: HostVerification): number {
  return differences.filter(({ severity }) => severity === 'error').length;
}

export function verificationLines(verification: HostVerification): string[] {
  const { host, differences, unverified } = verification;
  const drift = driftOf(verification);
  const head = drift === 0 ? 'as declared' : drift === 1 ? '1 difference' : `${drift} differences`;
  const lines = [`${host}: ${head}`];
  let table = '';
  for (const difference of differences) {
    if (difference.table !== table) {
      table = difference.table;
      if (table !== '') lines.push(`  ${table}`);
    }
    lines.push(...differenceLines(difference).map((line) => (table === '' ? `  ${line}` : `    ${line}`)));
  }
  for (const text of unverified) lines.push(`  not verified: ${text}`);
  return lines;
}

function differenceLines({ kind, severity, item, declared, real, note, remedy }: Difference): string[] {
  const name = [kind, item].filter((text) => text !== '').join(' ');
  const lines = [`${severity === 'info' ? 'info: ' : ''}${name}${note === '' ? '' : `: ${note}`}`];
  if (declared !== '' || real !== '') {
    lines.push(`  - declared  ${declared || '(nothing)'}`, `  + there     ${real || '(nothing)'}`);
  }
  if (remedy !== undefined) {
    const how =
      remedy.cost === 'instant'
        ? 'repair runs'
        : `by hand, it ${remedy.cost}${remedy.cost === 'rewrites' ? ' data' : ' something'}`;
    lines.push(`  ${how}: ${remedy.sql}`);
  }
  return lines;
}
