/** What plan, apply and status hand back: data for people and for --json, host by host. */
import type { Origin, StepCost, StepKind } from './migration.ts';
import type { Role } from './placement.ts';
import type { ReconcileChange } from './reconcile.ts';

export interface PlannedStatement {
  readonly kind: StepKind;
  readonly cost: StepCost;
  readonly sql: string;
  /** From 1, among the steps of the migration: the same step has the same number on every host. */
  readonly step: number;
  /** `follow`: another replica of the shard runs it. `skip`: done already. */
  readonly role: Exclude<Role, 'none'>;
  /** In words. */
  readonly why: string;
  /** An upper bound of what a step that rewrites or drops data touches on this host. */
  readonly bytes?: number;
}

export interface PlannedMigration {
  readonly name: string;
  readonly origin: Origin;
  /** Empty where only the row in the ledger is missing. */
  readonly statements: readonly PlannedStatement[];
}

/** What apply would do on a host. */
export interface HostPlan {
  readonly host: string;
  /** Why apply would refuse, one sentence each. */
  readonly refusals: readonly string[];
  readonly pending: readonly PlannedMigration[];
  readonly ttlChanges: readonly ReconcileChange[];
  readonly settingChanges: readonly ReconcileChange[];
  /** Tables whose TTL was written by hand and stays. */
  readonly ttlForeign: readonly string[];
}

/** What apply did on a host. */
export interface HostReport {
  readonly host: string;
  readonly applied: readonly { readonly name: string; readonly durationMs: number }[];
  readonly ttlChanged: readonly ReconcileChange[];
  readonly settingsChanged: readonly ReconcileChange[];
}

export interface HostStatus {
  readonly host: string;
  /** Why the host could not be asked; its migrations are not known then. */
  readonly missing?: string;
  readonly migrations: readonly MigrationStatus[];
  readonly refusals: readonly string[];
}

export type MigrationStatus = { readonly origin: Origin; readonly number: number; readonly name: string } & (
  | { readonly state: 'pending' }
  | {
      readonly state: 'applied';
      readonly appliedAt: string;
      readonly durationMs: number;
      readonly version: string;
      readonly checksum: string;
    }
);

/** Whether a plan holds anything that apply would do or refuse: exit code 3. */
export function hasDifferences(plans: readonly HostPlan[]): boolean {
  return plans.some(
    ({ refusals, pending, ttlChanges, settingChanges }) =>
      refusals.length + pending.length + ttlChanges.length + settingChanges.length > 0,
  );
}
