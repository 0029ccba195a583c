/**
 * The declared tables on a real server without a ledger, lock or topology: for tests of the SQL itself and of
 * what the configuration says about tables.
 */
import { afterAll } from 'vitest';
import { type ClickHouse, close, command, createClickHouse, probe } from '../../src/clickhouse/client.ts';
import { readHistories } from '../../src/migrate/history.ts';
import type { Migration } from '../../src/migrate/migration.ts';
import type { RenderContext } from '../../src/migrate/placeholders.ts';
import { type ReconcilePlan, planReconcile } from '../../src/migrate/reconcile.ts';
import { renderMigration } from '../../src/migrate/render.ts';
import { silent } from '../support/services.ts';
import { SINGLE } from './fixture.ts';

const TIMEOUTS = { insertTimeoutMs: 60_000, queryTimeoutMs: 60_000 };
/** Of a table without TTL, so that rows of any time stay. */
export const KEPT = { traces: 0, metrics: 0, logs: 0 };

export interface Tables {
  /** A client for the server, closed after the tests of the file. */
  readonly server: ClickHouse;
  /** As the real server is; rows are kept for ever. */
  context(overrides?: Partial<RenderContext>): Promise<RenderContext>;
  /** Makes database and tables. */
  create(context: RenderContext, migrations?: readonly Migration[]): Promise<void>;
  plan(context: RenderContext, migrations?: readonly Migration[]): Promise<ReconcilePlan>;
  /** Runs what is planned, and gives the plan. */
  reconcile(context: RenderContext, migrations?: readonly Migration[]): Promise<ReconcilePlan>;
}

const history = readHistories('sql');

/** @param service of `useClickHouse` or one that runs already: looked at when a test first needs it */
export function useTables(service: { readonly url: string }): Tables {
  let made: ClickHouse | undefined;
  const server = () => {
    made ??= createClickHouse(service.url, TIMEOUTS, silent);
    return made;
  };
  afterAll(async () => {
    if (made) await close(made);
  });
  const plan: Tables['plan'] = (context, migrations = history) =>
    planReconcile(server(), migrations, context);
  return {
    get server() {
      return server();
    },
    async context(overrides = {}) {
      return { ...SINGLE, retentionDays: KEPT, server: await probe(server()), ...overrides };
    },
    async create(context, migrations = history) {
      await command(server(), `CREATE DATABASE IF NOT EXISTS ${context.database}`);
      for (const migration of migrations) {
        for (const { sql } of renderMigration(migration, context)) await command(server(), sql);
      }
    },
    plan,
    async reconcile(context, migrations) {
      const planned = await plan(context, migrations);
      for (const { sql, settings } of planned.changes) await command(server(), sql, settings);
      return planned;
    },
  };
}
