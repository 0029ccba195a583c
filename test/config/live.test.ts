/**
 * Goal: a change of the files takes effect without a restart, as a whole or not at all: what is wrong, half written or
 * emptied changes nothing, what needs a restart is named, and what was handed out before stays as it was.
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { DEFINITIONS } from '../../src/config/definitions.ts';
import { LIVE_KEYS } from '../../src/config/live-keys.ts';
import { LiveSettings, type ReloadReport } from '../../src/config/live.ts';
import { type Environment, loadSettings } from '../../src/config/load.ts';
import { eventually, silent } from '../support/services.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-live-'));
afterAll(() => rmSync(folder, { recursive: true }));

const running: LiveSettings[] = [];
afterEach(() => {
  for (const live of running.splice(0)) live.stop();
});

let files = 0;
function file(text: string): string {
  const path = join(folder, `${files++}.yaml`);
  writeFileSync(path, text);
  return path;
}

function open(environment: Environment, pollMs = 0) {
  const all = { SLUICE_CONFIG_POLL_MS: String(pollMs), ...environment };
  const loaded = loadSettings(all);
  const reports: ReloadReport[] = [];
  const changes: string[][] = [];
  const live = new LiveSettings({
    loaded,
    settings: loaded.settings,
    environment: all,
    logger: silent,
    onReload: (report) => reports.push(report),
    settleMs: 10,
  });
  live.onChange((settings, keys) => {
    expect(settings).toBe(live.current);
    changes.push([...keys]);
  });
  running.push(live);
  return { live, reports, changes, loaded };
}

test('what is live are settings, and none that something was built with', () => {
  const keys = DEFINITIONS.map(({ key }) => key);
  expect([...LIVE_KEYS].filter((key) => !keys.includes(key))).toEqual([]);
  for (const key of ['redis.url', 'receive.grpcAddr', 'tenants.column', 'config.pollMs', 'batch.rowsMax']) {
    expect(LIVE_KEYS.has(key)).toBe(false);
  }
});

describe('reload', () => {
  test('applies what is live, in new settings', () => {
    const path = file('limits:\n  attributesMax: 7\nlog:\n  level: warn\n');
    const { live, reports, changes } = open({ SLUICE_CONFIG: path });
    const before = live.current;
    writeFileSync(path, 'limits:\n  attributesMax: 8\n  refuse: [events]\nlog:\n  level: warn\n');
    expect(live.reload()).toEqual({
      outcome: 'applied', changed: ['limits.attributesMax', 'limits.refuse'], needsRestart: [],
    });
    expect(changes).toEqual([['limits.attributesMax', 'limits.refuse']]);
    expect(live.current.limits.attributesMax).toBe(8);
    expect(before.limits.attributesMax).toBe(7);
    expect(live.reload().outcome).toBe('unchanged');
    expect([reports.length, changes.length]).toEqual([2, 1]);
  });
  test.each([...LIVE_KEYS])('%s is applied', (key) => {
    const other: Readonly<Record<string, string>> = {
      'admin.tokens': `[sha256:${'0'.repeat(64)}]`, 'tenants.list': '[{name: a}]', 'tenants.header': 'x-t',
      'shares.slowFirst': 'logs', 'limits.timePastBySignal': 'logs=1', 'limits.timeFutureBySignal': 'logs=1',
      'limits.refuse': 'events', rules: '[{name: a, action: drop}]', 'resend.sources': 'a=1', 'log.level': 'debug',
      'tenants.anonymous': 'refuse', 'tenants.unlisted': 'default', 'limits.mode': 'dry_run',
      'receive.bytesInFlightMax': '100000000', 'pressure.memoryBytesMax': '100000000', 'queue.bytesMax': '100000000',
      'pressure.retryMsMin': '1001', 'pressure.retryMsMax': '30001',
    };
    const value = other[key] ?? '61';
    const path = file('{}');
    const { live } = open({ SLUICE_CONFIG: path });
    writeFileSync(path, tree(key, value));
    expect(live.reload()).toMatchObject({ outcome: 'applied', changed: [key] });
    writeFileSync(path, '{}');
    expect(live.reload()).toMatchObject({ outcome: 'applied', changed: [key] });
  });
  test('what needs a restart is named until it is as it was at the start, and changes nothing', () => {
    const path = file('batch:\n  rowsMax: 7\n');
    const { live } = open({ SLUICE_CONFIG: path });
    writeFileSync(path, 'batch:\n  rowsMax: 8\ndrain:\n  msMax: 9000\n');
    expect(live.reload()).toEqual({
      outcome: 'unchanged', changed: [], needsRestart: ['batch.rowsMax', 'drain.msMax'],
    });
    expect(live.current.batch.rowsMax).toBe(7);
    writeFileSync(path, 'batch:\n  rowsMax: 8\nlog:\n  level: debug\n');
    expect(live.reload()).toEqual({ outcome: 'applied', changed: ['log.level'], needsRestart: ['batch.rowsMax'] });
    expect([live.current.batch.rowsMax, live.current.log.level]).toEqual([7, 'debug']);
    writeFileSync(path, 'batch:\n  rowsMax: 7\nlog:\n  level: debug\n');
    expect(live.reload()).toEqual({ outcome: 'unchanged', changed: [], needsRestart: [] });
  });
  test('the environment wins as at the start', () => {
    const path = file('limits:\n  attributesMax: 7\n');
    const { live } = open({ SLUICE_CONFIG: path, SLUICE_LIMITS_ATTRIBUTES_MAX: '5' });
    writeFileSync(path, 'limits:\n  attributesMax: 8\n  eventsMax: 9\n');
    expect(live.reload()).toMatchObject({ outcome: 'applied', changed: ['limits.eventsMax'] });
    expect(live.current.limits).toMatchObject({ attributesMax: 5, eventsMax: 9 });
  });
  test('what the program has put in place of settings stays', () => {
    const path = file('{}');
    const environment = { SLUICE_CONFIG: path };
    const loaded = loadSettings(environment);
    const settings = { ...loaded.settings, redis: { ...loaded.settings.redis, url: 'redis://embedded' } };
    const live = new LiveSettings({ loaded, settings, environment, logger: silent, onReload: () => {} });
    writeFileSync(path, 'log:\n  level: debug\n');
    expect(live.reload()).toEqual({ outcome: 'applied', changed: ['log.level'], needsRestart: [] });
    expect(live.current.redis.url).toBe('redis://embedded');
  });
  test('without any file there is nothing to do', () => {
    expect(open({}).live.reload()).toEqual({ outcome: 'unchanged', changed: [], needsRestart: [] });
  });
});

describe('what is refused changes nothing', () => {
  test.each<[string, string, RegExp]>([
    ['a wrong value beside a right one', 'limits:\n  eventsMax: 9\n  attributesMax: many\n', /limits\.attributesMax in/],
    ['an unknown key', 'limits:\n  eventsMax: 9\n  atributesMax: 9\n', /did you mean limits\.attributesMax/],
    ['no YAML', 'limits: {eventsMax: 9', /can't be read: no YAML/],
    ['values that do not go together', 'receive:\n  requestBytesMax: 1MiB\n  bytesInFlightMax: 64KiB\n', /BYTES_IN_FLIGHT/],
    ['values that only go together after a restart', 'receive:\n  requestBytesMax: 1MiB\n  bytesInFlightMax: 2MiB\n',
      /SLUICE_RECEIVE_BYTES_IN_FLIGHT_MAX: 2097152 is below SLUICE_REQUEST_BYTES_MAX \(67108864\)/],
    ['nothing', '', /is empty now/],
    ['blanks', ' \n\n', /is empty now/],
  ])('%s', (_, text, words) => {
    const path = file('limits:\n  attributesMax: 7\n');
    const { live, changes } = open({ SLUICE_CONFIG: path });
    const before = live.current;
    writeFileSync(path, text);
    for (let i = 0; i < 2; i++) {
      const report = live.reload();
      expect(report).toMatchObject({ outcome: 'refused', changed: [], needsRestart: [] });
      expect(report.error).toMatch(words);
    }
    expect(live.current).toBe(before);
    expect(changes).toEqual([]);
    writeFileSync(path, 'limits:\n  attributesMax: 8\n');
    expect(live.reload().outcome).toBe('applied');
  });
  test('a file that is gone, or a secret that is', () => {
    const [path, secret] = [file('{}'), file('redis://me:hunter2@r')];
    const { live } = open({ SLUICE_CONFIG: path, SLUICE_REDIS_URL_FILE: secret });
    unlinkSync(secret);
    expect(live.reload().error).toMatch(/SLUICE_REDIS_URL_FILE: .* can't be read: ENOENT/);
    writeFileSync(secret, 'hunter2');
    expect(live.reload().error).toMatch(/SLUICE_REDIS_URL_FILE \(.*\): the value \(not shown/);
    writeFileSync(secret, 'redis://me:hunter2@r\n');
    expect(live.reload().outcome).toBe('unchanged');
    unlinkSync(path);
    expect(live.reload().error).toMatch(/SLUICE_CONFIG: .* can't be read: ENOENT/);
  });
  test('{} says that there shall be no settings, and a file that was empty may stay so', () => {
    const path = file('limits:\n  attributesMax: 7\n');
    const { live } = open({ SLUICE_CONFIG: path });
    writeFileSync(path, '{}');
    expect(live.reload().outcome).toBe('applied');
    const empty = open({ SLUICE_CONFIG: file('') });
    expect(empty.live.reload().outcome).toBe('unchanged');
  });
});

describe('watching', () => {
  test('a file that is written in place, at first only in part', async () => {
    const path = file('limits:\n  attributesMax: 7\n');
    const { live, reports } = open({ SLUICE_CONFIG: path }, 20);
    live.start();
    for (let i = 0; i < 20; i++) {
      writeFileSync(path, `limits:\n  attributesMax: ${100 + i}\n  eventsMax: 1\n`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await eventually('the last text', () => live.current.limits.attributesMax === 119);
    // Whatever was seen in between was whole.
    for (const report of reports) expect(report.outcome).toBe('applied');
  });
  test('a link that is swapped, as a ConfigMap is, and a secret beside it', async () => {
    const mount = join(folder, 'mount');
    const version = (name: string, text: string, secret: string) => {
      mkdirSync(join(mount, name), { recursive: true });
      writeFileSync(join(mount, name, 'sluice.yaml'), text);
      writeFileSync(join(mount, name, 'tenants'), secret);
      symlinkSync(name, join(mount, '..data_tmp'));
      renameSync(join(mount, '..data_tmp'), join(mount, '..data'));
    };
    version('..1', 'limits:\n  attributesMax: 7\n', '[{"name":"a"}]');
    for (const name of ['sluice.yaml', 'tenants']) symlinkSync(`..data/${name}`, join(mount, name));
    const { live } = open(
      { SLUICE_CONFIG: join(mount, 'sluice.yaml'), SLUICE_TENANTS_FILE: join(mount, 'tenants') }, 20,
    );
    live.start();
    version('..2', 'limits:\n  attributesMax: 8\n', '[{"name":"a"}]');
    await eventually('the new file', () => live.current.limits.attributesMax === 8);
    version('..3', 'limits:\n  attributesMax: 8\n', '[{"name":"a"},{"name":"b"}]');
    await eventually('the new secret', () => live.current.tenants.list.length === 2);
  });
  test('a wrong file is refused once, not at every look, and mended by the next', async () => {
    const path = file('limits:\n  attributesMax: 7\n');
    const { live, reports } = open({ SLUICE_CONFIG: path }, 20);
    live.start();
    writeFileSync(path, 'limits:\n  attributesMax: many\n');
    await eventually('the refusal', () => reports.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(reports.map(({ outcome }) => outcome)).toEqual(['refused']);
    writeFileSync(path, 'limits:\n  attributesMax: 7\n');
    await eventually('the end of it', () => reports.length > 1);
    expect(reports.map(({ outcome }) => outcome)).toEqual(['refused', 'unchanged']);
  });
  test('is nothing at 0, and over after stop', async () => {
    for (const pollMs of [0, 20]) {
      const path = file('limits:\n  attributesMax: 7\n');
      const { live, reports } = open({ SLUICE_CONFIG: path }, pollMs);
      live.start();
      if (pollMs > 0) live.stop();
      writeFileSync(path, 'limits:\n  attributesMax: 8\n');
      await new Promise((resolve) => setTimeout(resolve, 150));
      expect(reports).toEqual([]);
      expect(live.reload().outcome).toBe('applied');
    }
  });
});

function tree(key: string, value: string): string {
  return key.split('.').reduceRight((node, name) => `{${name}: ${node}}`, value);
}
