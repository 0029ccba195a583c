/**
 * Goal: an operator with the built program finds what ClickHouse refuses, looks at it, takes a copy, mends the
 * cause and replays it, after which every row is there once; or drops it, and the books say so.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Acted, ShownLetter } from '../../src/app/deadletters.ts';
import type { ItemCounts } from '../../src/queue/counts.ts';
import type { LetterGroup } from '../../src/queue/letters.ts';
import { openStore } from '../queue/support.ts';
import { PATIENCE_MS, type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, makeTempDir, removeTempDir } from '../support/services.ts';
import { redisSettings } from '../support/settings.ts';

const GOOD = 20;
const POISON = 3;
/** Spans of this request begin with 0000002a. */
const POISON_REQUEST = 41;

let program: Program;
let dataDir = '';
let redisUrl = '';

beforeAll(async () => {
  dataDir = makeTempDir();
  program = await start('up', await environmentFor(dataDir));
  redisUrl = `redis://127.0.0.1:${program.environment.SLUICE_EMBEDDED_REDIS_PORT}/0`;
});
afterAll(async () => {
  await program?.end();
  removeTempDir(dataDir);
});

async function send(spans: number, requestNumber: number): Promise<void> {
  const answer = await fetch(`${program.http}/v1/traces`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-protobuf' },
    body: tracesRequest(spans, requestNumber),
  });
  expect(answer.status).toBe(200);
}

async function sql(statement: string, url = ''): Promise<void> {
  const answer = await fetch(`${program.clickhouse}/${url}`, { method: 'POST', body: statement });
  expect(await answer.text()).toBe('');
}

async function letters(...args: string[]) {
  const result = await run(['deadletters', ...args], {
    SLUICE_REDIS_URL: redisUrl,
    SLUICE_LOG_LEVEL: 'warn',
  });
  return { ...result, json: <T>() => JSON.parse(result.stdout) as T };
}

interface Listed {
  readonly groups: readonly LetterGroup[];
  readonly letters: readonly ShownLetter[];
}

async function list(...args: string[]): Promise<Listed> {
  const result = await letters('list', '--json', ...args);
  expect(result.stderr).toBe('');
  expect(result.code).toBe(0);
  return result.json<Listed>();
}

const rowsOf = (of: readonly { readonly rows: number }[]) => of.reduce((sum, { rows }) => sum + rows, 0);

async function books(): Promise<Omit<ItemCounts, 'newestWrittenAtMs'>> {
  const store = await openStore(redisSettings(redisUrl));
  try {
    const { accepted, written, waiting, dead, dropped } = (await store.counts(0)).items.traces;
    expect(written + waiting + dead + dropped).toBe(accepted);
    return { accepted, written, waiting, dead, dropped };
  } finally {
    store.close();
  }
}

/** Until nothing waits: rows are in ClickHouse or dead. */
function settled(accepted: number) {
  return eventually(
    `${accepted} rows that don't wait`,
    async () => {
      const found = await books();
      return found.accepted === accepted && found.waiting === 0 && found;
    },
    PATIENCE_MS,
  );
}

async function stored(): Promise<{ rows: number; spans: number }> {
  const [row] = await program.rows<{ rows: number; spans: number }>(
    'SELECT count() AS rows, uniqExact(SpanId) AS spans FROM otel.otel_traces',
  );
  return row ?? { rows: -1, spans: -1 };
}

describe('a constraint that refuses a row', { timeout: 4 * PATIENCE_MS }, () => {
  const sent = GOOD + POISON + GOOD;
  /** 3, or more where a batch is set aside whole. */
  let dead = 0;

  test('makes a dead letter of it, and the rest is stored', async () => {
    await sql(
      `ALTER TABLE otel.otel_traces ADD CONSTRAINT no_poison CHECK NOT startsWith(SpanId, '0000002a')`,
    );
    await send(GOOD, 0);
    await send(POISON, POISON_REQUEST);
    await send(GOOD, 1);
    await settled(sent);
    const found = await list();
    dead = rowsOf(found.letters);
    expect(dead).toBeGreaterThanOrEqual(POISON);
    expect(rowsOf(found.groups)).toBe(dead);
    expect(found.groups).toMatchObject([
      { signal: 'traces', table: 'otel_traces', reason: 'VIOLATED_CONSTRAINT' },
    ]);
    expect(await stored()).toEqual({ rows: sent - dead, spans: sent - dead });
    expect(await books()).toMatchObject({ accepted: sent, written: sent - dead, dead });
    expect(await list('--signal', 'logs')).toEqual({ groups: [], letters: [] });
    const { stdout } = await letters('list', '--reason', 'VIOLATED*');
    expect(stdout).toContain(found.letters[0]?.id);
  });

  test('is shown with why, from where and what', async () => {
    const [letter] = (await list()).letters;
    const shown = await letters('show', letter?.id ?? '', '--json');
    const about = shown.json<ShownLetter & { firstRows: Record<string, unknown>[] }>();
    expect(about).toMatchObject({ ...letter, firstRows: expect.arrayContaining([]) });
    expect(about.message).toContain('no_poison');
    expect(about.firstRows[0]).toMatchObject({
      ServiceName: 'test',
      SpanId: expect.stringMatching(/^[0-9a-f]{16}$/),
    });
    const { stdout } = await letters('show', letter?.id ?? '');
    expect(stdout).toMatch(/reason +VIOLATED_CONSTRAINT/);
    expect(stdout).toContain('"ServiceName":"test"');
    expect(await letters('show', 'nothing')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('nothing'),
    });
  });

  test('is exported as files that ClickHouse takes, never over others', async () => {
    const folder = join(dataDir, 'exported');
    expect(await letters('export', folder, '--table', 'otel_traces')).toMatchObject({ code: 0 });
    const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
    const abouts = names.map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
    expect(rowsOf(abouts)).toBe(dead);
    expect(readdirSync(folder)).toHaveLength(2 * names.length);
    await sql('CREATE TABLE otel.mended AS otel.otel_traces');
    await sql('ALTER TABLE otel.mended DROP CONSTRAINT no_poison');
    for (const about of abouts) {
      const insert = String(about.insert).replace('`otel_traces`', '`mended`');
      const answer = await fetch(`${program.clickhouse}/?query=${encodeURIComponent(insert)}`, {
        method: 'POST',
        headers: { 'content-encoding': 'zstd' },
        body: readFileSync(join(folder, about.file)),
      });
      expect(await answer.text()).toBe('');
    }
    expect(await program.rows('SELECT count() AS rows FROM otel.mended')).toEqual([{ rows: dead }]);
    const again = await letters('export', folder);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('choose an empty folder') });
    expect(readdirSync(folder)).toHaveLength(2 * names.length);
  });

  test('comes again as long as it is refused, and is stored once when it is mended', async () => {
    const before = (await list()).letters;
    expect(await letters('replay')).toMatchObject({ code: 2, stderr: expect.stringContaining('--all') });
    const dry = await letters('replay', '--all', '--dry-run', '--json');
    expect(dry.json<Acted>()).toMatchObject({ dryRun: true, letters: before.length, rows: dead });
    expect((await letters('replay', '--all')).stdout).toContain('tried again');
    // Only what is refused comes back: other rows of a batch that was set aside whole may be stored now.
    await eventually(
      'a letter again',
      async () => {
        const now = await books();
        return now.waiting === 0 && now.dead > 0;
      },
      PATIENCE_MS,
    );
    for (const { replays, firstBuriedAt, buriedAt } of (await list()).letters) {
      expect(replays).toBe(1);
      expect(Date.parse(firstBuriedAt)).toBeLessThan(Date.parse(buriedAt));
    }
    await sql('ALTER TABLE otel.otel_traces DROP CONSTRAINT no_poison');
    const replayed = await letters('replay', '--reason', 'VIOLATED_CONSTRAINT', '--json');
    expect(replayed.json<Acted>().letters).toBeGreaterThan(0);
    await eventually('every row', async () => (await stored()).rows >= sent, PATIENCE_MS);
    expect(await settled(sent)).toEqual({ accepted: sent, written: sent, waiting: 0, dead: 0, dropped: 0 });
    expect(await stored()).toEqual({ rows: sent, spans: sent });
    expect((await letters('list')).stdout).toBe('no dead letters\n');
  });

  test('may be dropped, which is counted and logged', async () => {
    await sql(
      `ALTER TABLE otel.otel_traces ADD CONSTRAINT no_poison CHECK NOT startsWith(SpanId, '0000002a')`,
    );
    await send(POISON, POISON_REQUEST);
    await settled(sent + POISON);
    expect(await letters('drop')).toMatchObject({ code: 2, stderr: expect.stringContaining('--all') });
    expect((await letters('drop', '--until', '1h', '--json')).json<Acted>()).toMatchObject({ letters: 0 });
    expect((await letters('drop', '--since', '1h', '--dry-run')).stdout).toContain(`${POISON} rows`);
    expect(await books()).toMatchObject({ dead: POISON, dropped: 0 });
    const dropped = await letters('drop', '--since', '1h', '--json');
    expect(dropped.json<Acted>()).toMatchObject({ done: 'dropped', rows: POISON });
    expect(dropped.stderr).toContain('VIOLATED_CONSTRAINT');
    expect(await books()).toEqual({
      accepted: sent + POISON,
      written: sent,
      waiting: 0,
      dead: 0,
      dropped: POISON,
    });
  });
});

test('what is wrong on the command line ends with 2, a Redis that is away with 1', {
  timeout: 4 * PATIENCE_MS,
}, async () => {
  for (const args of [
    ['--limit', '0'],
    ['--signal', 'spans'],
    ['--since', 'yesterday'],
  ]) {
    expect(await letters('list', ...args)).toMatchObject({ code: 2, stdout: '' });
  }
  const away = await run(['deadletters', 'list'], { SLUICE_REDIS_URL: 'redis://127.0.0.1:1/0' });
  expect(away).toMatchObject({ code: 1, stderr: expect.stringContaining('Redis') });
});
