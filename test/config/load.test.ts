/** Goal: every setting is read from environment, file and default in this order, and a wrong one says exactly what is wrong. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { DEFINITIONS } from '../../src/config/definitions.ts';
import { LIVE_KEYS } from '../../src/config/live-keys.ts';
import { loadSettings } from '../../src/config/load.ts';
import { printSettings } from '../../src/config/print.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function file(text: string): string {
  const path = join(folder, `${files++}.yaml`);
  writeFileSync(path, text);
  return path;
}

function refusal(environment: Record<string, string>): string {
  try {
    loadSettings(environment);
  } catch (error) {
    if (error instanceof ConfigurationError) return error.message;
    throw error;
  }
  return 'accepted';
}

describe('priority', () => {
  const path = file('batch:\n  rowsMax: 7\n  ageMsMax: 70\n');
  test('environment before file before default', () => {
    const { settings, list } = loadSettings({ SLUICE_CONFIG: path, SLUICE_BATCH_ROWS_MAX: '8' });
    expect(settings.batch).toEqual({ rowsMax: 8, bytesMax: 67_108_864, ageMsMax: 70 });
    const origins = list
      .filter(({ definition }) => definition.key.startsWith('batch.'))
      .map(({ origin }) => origin);
    expect(origins).toEqual(['environment', 'default', 'file']);
  });
  test('an empty variable counts as not set', () => {
    expect(loadSettings({ SLUICE_CONFIG: path, SLUICE_BATCH_ROWS_MAX: '' }).settings.batch.rowsMax).toBe(7);
  });
  test('an empty file is a file without settings', () => {
    expect(loadSettings({ SLUICE_CONFIG: file('') }).settings.batch.rowsMax).toBe(100_000);
  });
});

describe('the names that deployments rely on', () => {
  const fixed: readonly (readonly [string, string])[] = [
    ['SLUICE_GRPC_ADDR', '0.0.0.0:4317'],
    ['SLUICE_HTTP_ADDR', '0.0.0.0:4318'],
    ['SLUICE_ADMIN_ADDR', '0.0.0.0:9090'],
    ['SLUICE_REDIS_URL', 'redis://127.0.0.1:6379/0'],
    ['SLUICE_CLICKHOUSE_URL', 'http://127.0.0.1:8123'],
    ['SLUICE_CLICKHOUSE_CLUSTER', ''],
    ['SLUICE_CLICKHOUSE_DATABASE', 'otel'],
    ['SLUICE_DATA_DIR', '.sluice'],
    ['SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT', '8123'],
    ['SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT', '9000'],
    ['SLUICE_EMBEDDED_REDIS_PORT', '6379'],
    ['SLUICE_LOG_LEVEL', 'info'],
    ['SLUICE_REQUEST_BYTES_MAX', '67108864'],
    ['SLUICE_BATCH_ROWS_MAX', '100000'],
    ['SLUICE_BATCH_BYTES_MAX', '67108864'],
    ['SLUICE_BATCH_AGE_MS_MAX', '1000'],
    ['SLUICE_RETENTION_DAYS_TRACES', '30'],
    ['SLUICE_RETENTION_DAYS_LOGS', '30'],
    ['SLUICE_RETENTION_DAYS_METRICS', '30'],
    ['SLUICE_MIGRATIONS_DIR', 'sql'],
    ['SLUICE_QUEUE_BYTES_MAX', 'auto'],
  ];
  test.each(fixed)('%s is %j', (env, value) => {
    expect(DEFINITIONS.find((definition) => definition.env === env)?.default).toBe(value);
  });
  test('no key and no name twice, and every default is accepted', () => {
    expect(new Set(DEFINITIONS.map(({ key }) => key)).size).toBe(DEFINITIONS.length);
    expect(new Set(DEFINITIONS.map(({ env }) => env)).size).toBe(DEFINITIONS.length);
    expect(refusal({})).toBe('accepted');
  });
});

describe('values at their edges', () => {
  const rows: readonly (readonly [string, string, boolean])[] = [
    ['SLUICE_REQUEST_BYTES_MAX', '1024', true],
    ['SLUICE_REQUEST_BYTES_MAX', '1023', false],
    ['SLUICE_REQUEST_BYTES_MAX', '64MiB', true],
    ['SLUICE_REQUEST_BYTES_MAX', '64MB', false],
    ['SLUICE_REQUEST_BYTES_MAX', '1GiB', false],
    ['SLUICE_BATCH_ROWS_MAX', '1', true],
    ['SLUICE_BATCH_ROWS_MAX', '0', false],
    ['SLUICE_BATCH_ROWS_MAX', '1e3', false],
    ['SLUICE_BATCH_ROWS_MAX', '1.5', false],
    ['SLUICE_BATCH_AGE_MS_MAX', '10', true],
    ['SLUICE_BATCH_AGE_MS_MAX', '9', false],
    ['SLUICE_RETENTION_DAYS_LOGS', '0', true],
    ['SLUICE_RETENTION_DAYS_LOGS', '-1', false],
    ['SLUICE_FRAGMENT_ZSTD_LEVEL', 'off', true],
    ['SLUICE_FRAGMENT_ZSTD_LEVEL', '-7', true],
    ['SLUICE_FRAGMENT_ZSTD_LEVEL', '20', false],
    ['SLUICE_QUEUE_BYTES_MAX', 'auto', true],
    ['SLUICE_QUEUE_BYTES_MAX', 'none', false],
    ['SLUICE_GRPC_ADDR', ':4317', true],
    ['SLUICE_GRPC_ADDR', '[::1]:4317', true],
    ['SLUICE_GRPC_ADDR', '4317', false],
    ['SLUICE_GRPC_ADDR', 'host:65536', false],
    ['SLUICE_LOG_LEVEL', 'debug', true],
    ['SLUICE_LOG_LEVEL', 'verbose', false],
    ['SLUICE_REDIS_URL', 'rediss://user:pw@r:6380/1', true],
    ['SLUICE_REDIS_URL', 'http://r', false],
    ['SLUICE_CLICKHOUSE_URL', 'http://a:8123,https://u:p@b:8443', true],
    ['SLUICE_CLICKHOUSE_URL', 'a:8123', false],
    ['SLUICE_CLICKHOUSE_DATABASE', 'otel_2', true],
    ['SLUICE_CLICKHOUSE_DATABASE', 'otel; DROP', false],
  ];
  test.each(rows)('%s=%s', (name, value, accepted) => {
    expect(refusal({ [name]: value }) === 'accepted').toBe(accepted);
  });
  test('a refusal names the setting, the value, what is wanted and an example', () => {
    expect(refusal({ SLUICE_BATCH_ROWS_MAX: 'many' })).toBe(
      'SLUICE_BATCH_ROWS_MAX: the value "many" can\'t be used; wanted: a whole number from 1 to 10000000, for example 100000',
    );
  });
  test('rules between settings', () => {
    expect(refusal({ SLUICE_RECEIVE_BYTES_IN_FLIGHT_MAX: '65536' })).toContain('SLUICE_REQUEST_BYTES_MAX');
    expect(refusal({ SLUICE_WRITE_RETRY_MS_MIN: '20000' })).toContain('SLUICE_WRITE_RETRY_MS_MAX');
    expect(refusal({ SLUICE_PRESSURE_RETRY_MS_MIN: '8001' })).toContain('SLUICE_PRESSURE_RETRY_MS_MAX');
    expect(refusal({ SLUICE_PRESSURE_RETRY_MS_MIN: '8000' })).toBe('accepted');
  });
});

describe('the file', () => {
  test('an unknown key is refused with the nearest known one', () => {
    expect(refusal({ SLUICE_CONFIG: file('batch:\n  rowMax: 7\n') })).toMatch(
      /unknown key batch\.rowMax; did you mean batch\.rowsMax\?/,
    );
    expect(refusal({ SLUICE_CONFIG: file('bach:\n  rowsMax: 7\n') })).toMatch(/unknown key bach/);
  });
  test('a section that is no mapping, a file that is no YAML, a file that is not there', () => {
    expect(refusal({ SLUICE_CONFIG: file('batch: 7\n') })).toContain('batch must be a mapping');
    expect(refusal({ SLUICE_CONFIG: file('a: [1\n') })).toContain("can't be read");
    expect(refusal({ SLUICE_CONFIG: join(folder, 'nowhere.yaml') })).toContain('nowhere.yaml');
  });
  test('lists may be YAML lists', () => {
    const path = file(
      'clickhouse:\n  urls: [http://a:1, http://b:2]\nreceive:\n  corsOrigins: [https://x]\n',
    );
    const { settings } = loadSettings({ SLUICE_CONFIG: path });
    expect(settings.clickhouse.urls).toEqual(['http://a:1', 'http://b:2']);
    expect(settings.receive.corsOrigins).toEqual(['https://x']);
  });
});

test('variables that look like settings are warned about, with the nearest name', () => {
  expect(loadSettings({ SLUICE_BATCH_ROW_MAX: '1' }).warnings).toEqual([
    'SLUICE_BATCH_ROW_MAX is no setting of this version; did you mean SLUICE_BATCH_ROWS_MAX?',
  ]);
});

test('passwords are never printed, not in print and not in a refusal', () => {
  const environment = {
    SLUICE_REDIS_URL: 'redis://me:hunter2@r:6379/0',
    SLUICE_CLICKHOUSE_URL: 'http://me:hunter2@c:8123,http://you:hunter2@d:8123',
  };
  expect(JSON.stringify(printSettings(loadSettings(environment)))).not.toContain('hunter2');
  expect(refusal({ SLUICE_CLICKHOUSE_URL: 'ftp://me:hunter2@c' })).not.toContain('hunter2');
  expect(refusal({ SLUICE_REDIS_URL: 'ftp://me:hunter2@c' })).not.toContain('hunter2');
});

test('docs/configuration.md and the definitions agree, both ways', () => {
  const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  const cells = /^\| `([\w.]+)`( \(live\))? \| `(SLUICE_\w+)` \| (.*?) \| (.*?) \| (.*?) \|$/gm;
  const rows = [...page.matchAll(cells)].map((row) => row.slice(1));
  const expected = DEFINITIONS.map((definition) => [
    definition.key,
    LIVE_KEYS.has(definition.key) ? ' (live)' : undefined,
    definition.env,
    shownDefault(definition),
    definition.help,
    definition.kind.wanted,
  ]);
  expect(rows).toEqual(expected);
});

function shownDefault({ key, default: value }: { key: string; default: string }): string {
  // The only default that depends on where the program runs.
  if (key === 'log.format') return 'json; pretty on a terminal';
  return value === '' ? '(empty)' : `\`${value}\``;
}
