/** What the tests of the migrator share: a context for a database of its own, and folders of migrations. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { type ClickHouse, close, createClickHouse } from '../../src/clickhouse/client.ts';
import type { RenderContext } from '../../src/migrate/placeholders.ts';
import { type MigrateContext, SINGLE_SERVER } from '../../src/migrate/run.ts';
import { type TestClickHouse, silent } from '../support/services.ts';

/** A server of 26.7 that knows every setting; without rows being deleted. */
export const SINGLE: RenderContext = {
  database: 'otel',
  cluster: undefined,
  replicated: false,
  onCluster: false,
  server: { version: { major: 26, minor: 7 }, hasMergeTreeSetting: () => true },
  retentionDays: { traces: 30, metrics: 0, logs: 7 },
};

export const KEPT_FOR_EVER = { tracesDays: 0, logsDays: 0, metricsDays: 0 };

/** One client for the tests of a file, closed after them. */
export function useContext(
  clickhouse: TestClickHouse,
): (overrides: Partial<MigrateContext>) => MigrateContext {
  let server: ClickHouse | undefined;
  afterAll(async () => {
    if (server) await close(server);
  });
  return (overrides) => {
    server ??= createClickHouse(
      clickhouse.url,
      { insertTimeoutMs: 20_000, queryTimeoutMs: 20_000 },
      silent,
    );
    return {
      servers: [server],
      layout: SINGLE_SERVER,
      database: 'otel',
      retention: KEPT_FOR_EVER,
      migrationsDir: 'sql',
      version: '0.0.0',
      logger: silent,
      ...overrides,
    };
  };
}

/** A step that creates a table with one column. */
export const createTable = (table: string, column = 'n') => `-- @step local instant
CREATE TABLE IF NOT EXISTS {local:${table}} {on_cluster} (${column} UInt64)
ENGINE = {engine:MergeTree} ORDER BY ${column};
`;

export function writeMigrations(dir: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
}
