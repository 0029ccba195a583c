/**
 * Goal: the load generator tells the truth about a server. Against a sink that loses, doubles, refuses,
 * rejects or hangs up on purpose and a real ClickHouse, every acknowledged item is accounted for, through
 * every protocol.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { type BenchReport, runBench, type Watcher } from '../../bench/bench.ts';
import { benchCommand, optionsOf } from '../../bench/options.ts';
import { complaintsOf, reportText } from '../../bench/report.ts';
import { useClickHouse } from '../support/services.ts';
import { createSinkTables, type Misdeed, startSink } from './sink.ts';

const clickhouse = useClickHouse();
beforeAll(() => createSinkTables(clickhouse));

const quiet: Watcher = { progress: () => undefined, note: () => undefined };

/** A run of about 30 small requests against a sink that does the misdeed to the 5th request it sees. */
async function run(misdeed: Misdeed, args: readonly string[]): Promise<BenchReport> {
  const sink = await startSink((request) => (request === 5 ? misdeed : {}), clickhouse);
  try {
    const port = args.includes('grpc') ? sink.grpcPort : sink.httpPort;
    const command = benchCommand('bench', '');
    const always = ['--target', `127.0.0.1:${port}`, '--clickhouse', clickhouse.url, '--request-items', '20'];
    const bounds = ['--items', '600', '--wait', '0', '--freshness', '0', '--pids', 'none', '--timeout', '60'];
    command.parse([...always, ...bounds, '--connections', '2', ...args], { from: 'user' });
    return await runBench(optionsOf(command), quiet);
  } finally {
    await sink.stop();
  }
}

describe('everything is there once', () => {
  test.each([
    ['traces', 'http-protobuf', 'none'],
    ['traces', 'grpc', 'none'],
    ['traces', 'grpc', 'gzip'],
    ['logs', 'http-json', 'gzip'],
    ['logs', 'http-protobuf', 'zstd'],
    ['metrics', 'http-protobuf', 'gzip'],
    ['metrics', 'http-json', 'none'],
    ['traces,logs,metrics', 'http-protobuf', 'none'],
  ])('%s over %s, compression %s', async (signals, protocol, compression) => {
    const report = await run({}, [
      '--signals',
      signals,
      '--protocol',
      protocol,
      '--compression',
      compression,
    ]);
    expect(report.acknowledged.items).toBe(600);
    expect(report.storage).toMatchObject({ missing: 0, doubled: 0 });
    expect(report.latencyMs.count).toBe(report.acknowledged.requests);
    expect(report.acknowledged.bytes).toBeGreaterThan(0);
    expect(complaintsOf(report)).toEqual([]);
  });
});

describe('what a server does wrong is seen', () => {
  test.each([
    ['traces', 'http-protobuf'],
    ['logs', 'http-json'],
    ['metrics', 'grpc'],
  ])('acknowledged %s that are lost, over %s', async (signals, protocol) => {
    const report = await run({ lose: 3 }, ['--signals', signals, '--protocol', protocol]);
    expect(report.storage).toMatchObject({ missing: 3, doubled: 0 });
    expect(complaintsOf(report)).toEqual(['3 acknowledged items are missing']);
    expect(reportText(report)).toMatch(/request \d+ has 17 of 20 items/);
  });
  test.each([
    ['traces', 'grpc'],
    ['logs', 'http-protobuf'],
    ['metrics', 'http-protobuf'],
  ])('%s that are stored twice, over %s', async (signals, protocol) => {
    const report = await run({ double: 4 }, ['--signals', signals, '--protocol', protocol]);
    expect(report.storage).toMatchObject({ missing: 0, doubled: 4 });
    expect(complaintsOf(report)).toEqual(['4 items are doubled']);
    expect(reportText(report)).toMatch(/request \d+ has 24 rows of 20 items/);
  });
  test.each(['http-protobuf', 'grpc'])(
    'the same bytes stored again after a lost answer, over %s',
    async (protocol) => {
      const report = await run({ hangUp: true }, ['--protocol', protocol]);
      expect(report.retries).toBe(1);
      expect(report.acknowledged.items).toBe(600);
      expect(report.storage).toMatchObject({ missing: 0, doubled: 20 });
    },
  );
});

describe('what is no fault of a server is not counted as one', () => {
  test.each(['http-protobuf', 'grpc'])('a refusal that is retried, over %s', async (protocol) => {
    const report = await run({ refuse: { http: 503, grpc: 14 } }, ['--protocol', protocol]);
    const code = protocol === 'grpc' ? 'grpc 14' : '503';
    expect(report.troubles[code]?.count).toBe(1);
    expect(report).toMatchObject({ retries: 1, acknowledged: { items: 600 } });
    expect(report.storage).toMatchObject({ missing: 0, doubled: 0 });
  });
  test.each([
    ['http-protobuf', { http: 400, grpc: 3 }, '400'],
    ['http-protobuf', { http: 500, grpc: 13 }, '500'],
    ['grpc', { http: 400, grpc: 3 }, 'grpc 3'],
    // Without a RetryInfo this one is final.
    ['grpc', { http: 429, grpc: 8 }, 'grpc 8'],
  ])('a refusal that is final, over %s', async (protocol, refuse, code) => {
    const report = await run({ refuse }, ['--protocol', protocol]);
    expect(report.troubles[code]?.count).toBe(1);
    expect(report).toMatchObject({ retries: 0, acknowledged: { items: 580 } });
    expect(report.storage).toMatchObject({
      missing: 0,
      doubled: 0,
      signals: { traces: { refusedStored: 0 } },
    });
  });
  test('a request that is not retried and had no answer', async () => {
    const report = await run({ hangUp: true }, ['--retries', '0']);
    expect(report).toMatchObject({ retries: 0, acknowledged: { items: 580 } });
    expect(report.storage).toMatchObject({ missing: 0, signals: { traces: { unacknowledgedStored: 20 } } });
    expect(complaintsOf(report)).toEqual([]);
  });
  test.each(['http-protobuf', 'http-json', 'grpc'])(
    'items that the server said it rejected, over %s',
    async (protocol) => {
      const report = await run({ reject: 6 }, ['--protocol', protocol]);
      expect(report).toMatchObject({ rejectedItems: 6, acknowledged: { items: 594 } });
      expect(report.storage).toMatchObject({ missing: 0, doubled: 0 });
    },
  );
});

test.each(['traces', 'logs', 'metrics'])('freshness of %s is probed beside the load', async (signal) => {
  const report = await run({}, ['--signals', signal, '--freshness', '5', '--wait', '60', '--rate', '1500']);
  expect(report.freshnessMs?.count).toBeGreaterThan(1);
  expect(report.freshnessMs?.lost).toBe(0);
  expect(report.storage).toMatchObject({ missing: 0, doubled: 0 });
  expect(report.acknowledged.items).toBe(600);
});

test('another run is not mistaken for this one', async () => {
  const [first, second] = [await run({ lose: 1 }, []), await run({ double: 1 }, [])];
  expect(first.storage).toMatchObject({ missing: 1, doubled: 0 });
  expect(second.storage).toMatchObject({ missing: 0, doubled: 1 });
});
