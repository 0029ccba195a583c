/**
 * Goal: expand, then contract. While a program of the present version takes and writes load, the tables are
 * widened and narrowed as a next version would: no request fails, no insert fails for good, and every
 * acknowledged row is there once, before, while and after.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PATIENCE_MS, type Program, run, withUp } from '../support/program.ts';
import { logsRequest, tracesRequest } from '../support/requests.ts';
import { eventually, withRedis, withTempDir } from '../support/services.ts';
import { startShards } from '../support/shards.ts';

const SENDERS = 2;
const SPANS = 20;
const RECORDS = 10;
/** Between two requests of a sender: commands beside them take long where much else runs. */
const PAUSE_MS = 20;
/** How many requests have to be acknowledged before, between and after the migrations. */
const REQUESTS_BETWEEN = 40;

/** What a next version brings: columns with defaults, an index, a setting, a table with its view. */
const EXPAND = `
-- @step local instant
ALTER TABLE {local:otel_traces} {on_cluster}
    ADD COLUMN IF NOT EXISTS Tenant LowCardinality(String) DEFAULT ResourceAttributes['tenant'] AFTER TraceId,
    ADD COLUMN IF NOT EXISTS Cost Float64 MATERIALIZED Duration / 1e9,
    ADD INDEX IF NOT EXISTS idx_tenant Tenant TYPE bloom_filter(0.01) GRANULARITY 1

-- @step local instant
ALTER TABLE {local:otel_logs} {on_cluster} ADD COLUMN IF NOT EXISTS Team String DEFAULT 'none' FIRST

-- @step local instant
ALTER TABLE {local:otel_traces} {on_cluster} MODIFY SETTING merge_selector_base = 6

-- @step local instant
CREATE TABLE IF NOT EXISTS {local:spans_by_tenant} {on_cluster} (Tenant String, Day Date, Spans UInt64)
ENGINE = {engine:SummingMergeTree} ORDER BY (Tenant, Day)
SETTINGS index_granularity = 8192 {deduplication}

-- @step distributed instant
CREATE TABLE IF NOT EXISTS {table:spans_by_tenant} {on_cluster} AS {local:spans_by_tenant}
ENGINE = {distributed:spans_by_tenant:cityHash64(Tenant)}

-- @step distributed instant
ALTER TABLE {table:otel_traces} {on_cluster} ADD COLUMN IF NOT EXISTS Tenant LowCardinality(String) AFTER TraceId

-- @step view instant
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.spans_by_tenant_mv {on_cluster} TO {local:spans_by_tenant}
AS SELECT toString(Tenant) AS Tenant, toDate(Timestamp) AS Day, count() AS Spans
FROM {local:otel_traces} GROUP BY Tenant, Day
`;
/** And what the one after it takes away, when nobody uses it any more. */
const CONTRACT = `
-- @step local instant
ALTER TABLE {local:otel_traces} {on_cluster} DROP INDEX IF EXISTS idx_tenant

-- @step local drops
ALTER TABLE {local:otel_traces} {on_cluster} DROP COLUMN IF EXISTS Cost

-- @step local drops
ALTER TABLE {local:otel_logs} {on_cluster} DROP COLUMN IF EXISTS Team
`;

/** Sends spans and log records until it is stopped, several requests at a time. */
class Load {
  acknowledged = 0;
  readonly problems: string[] = [];
  readonly #program: Program;
  readonly #senders: Promise<void>[];
  #stopping = false;

  constructor(program: Program) {
    this.#program = program;
    this.#senders = Array.from({ length: SENDERS }, () => this.#send());
  }

  /** Resolves when that many more requests were acknowledged. */
  async more(requests: number): Promise<void> {
    const enough = this.acknowledged + requests;
    const isEnough = () => this.acknowledged >= enough || this.problems.length > 0;
    await eventually('acknowledgements', isEnough, PATIENCE_MS);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#senders);
  }

  async #send(): Promise<void> {
    while (!this.#stopping) {
      const number = this.acknowledged;
      this.acknowledged += 1;
      await this.#post('traces', tracesRequest(SPANS, number));
      await this.#post('logs', logsRequest(RECORDS));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async #post(signal: string, body: Uint8Array): Promise<void> {
    const headers = { 'content-type': 'application/x-protobuf' };
    const answer = await fetch(`${this.#program.http}/v1/${signal}`, { method: 'POST', headers, body });
    const text = await answer.text();
    if (answer.status !== 200 || text !== '') this.problems.push(`${answer.status} ${text}`);
  }
}

/** A program that takes load, and how its rows are counted. */
interface Place {
  readonly program: Program;
  /** For commands beside it. */
  readonly environment: Readonly<Record<string, string>>;
  rows(sql: string): Promise<Record<string, unknown>[]>;
}

const QUICK = { SLUICE_BATCH_AGE_MS_MAX: '100' };

function onOneServer(body: (place: Place) => Promise<void>): Promise<void> {
  return withUp((program) => {
    const redis = `redis://127.0.0.1:${program.environment.SLUICE_EMBEDDED_REDIS_PORT}/0`;
    const services = { SLUICE_CLICKHOUSE_URL: program.clickhouse, SLUICE_REDIS_URL: redis };
    const rows = (sql: string) => program.rows(sql);
    return body({ program, environment: { ...program.environment, ...services }, rows });
  }, QUICK);
}

async function onTwoShards(body: (place: Place) => Promise<void>): Promise<void> {
  const shards = await startShards(2);
  try {
    await withRedis((redis) =>
      withUp(
        (program) => {
          // Any of them answers for all; numbers as numbers, as the program's own helper gives them.
          const rows = async (sql: string) => {
            const found = (await shards.servers[1]?.rows(sql)) ?? [];
            const numbers = (row: Record<string, unknown>) => Object.entries(row).map(([name, n]) => [name, Number(n)]);
            return found.map((row) => Object.fromEntries(numbers(row)));
          };
          return body({ program, environment: program.environment, rows });
        },
        {
          ...QUICK,
          SLUICE_REDIS_URL: redis.url,
          SLUICE_CLICKHOUSE_URL: shards.urls,
          SLUICE_CLICKHOUSE_CLUSTER: shards.name,
        },
      ),
    );
  } finally {
    await shards.stop();
  }
}

describe('tables are widened and narrowed under load, and nobody notices', {
  timeout: 5 * PATIENCE_MS,
}, () => {
  test.each([
    ['on one server', onOneServer],
    ['on two shards', onTwoShards],
  ])('%s', async (_, withPlace) => {
    await withTempDir((dir) => withPlace((place) => expandAndContract(place, dir)));
  });
});

async function expandAndContract(place: Place, dir: string): Promise<void> {
  const apply = async (name: string, text: string, ...options: string[]) => {
    writeFileSync(join(dir, name), text);
    const environment = { ...place.environment, SLUICE_MIGRATIONS_DIR: dir };
    const { code, stderr } = await run(['migrate', 'apply', ...options], environment);
    expect(code, stderr).toBe(0);
  };
  const load = new Load(place.program);
  try {
    await load.more(REQUESTS_BETWEEN);
    await apply('0001_expand.sql', EXPAND);
    await load.more(REQUESTS_BETWEEN);
    await apply('0002_contract.sql', CONTRACT, '--allow-drops');
    await load.more(REQUESTS_BETWEEN);
  } finally {
    await load.stop();
  }
  expect(load.problems).toEqual([]);
  await everythingIsThere(place, load.acknowledged);
}

async function everythingIsThere({ program, rows }: Place, requests: number): Promise<void> {
  const count = async () => {
    const [found] = await rows(`SELECT
      (SELECT count() FROM otel.otel_traces) AS spans,
      (SELECT uniqExact(SpanId) FROM otel.otel_traces) AS different,
      (SELECT count() FROM otel.otel_logs) AS records`);
    return found as { readonly spans: number; readonly different: number; readonly records: number };
  };
  const [spans, records] = [requests * SPANS, requests * RECORDS];
  await eventually(`${spans} spans and ${records} records`, async () => {
    const found = await count();
    return found.different >= spans && found.records >= records;
  }, 2 * PATIENCE_MS);
  await eventually('an empty queue', async () => (await program.metric('queue_items')) === 0, PATIENCE_MS);
  expect(await count()).toEqual({ spans, different: spans, records });
  const [summed] = await rows('SELECT sum(Spans) AS spans FROM otel.spans_by_tenant');
  expect(summed?.spans).toBeGreaterThan(REQUESTS_BETWEEN * SPANS);
  for (const outcome of ['never', 'unread']) expect(await program.metric('inserts_total', { outcome })).toBe(0);
  expect(await program.metric('items_deadlettered_total')).toBe(0);
  expect(await program.metric('items_written_total')).toBe(spans + records);
}
