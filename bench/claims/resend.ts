/**
 * Claim: what recognising repeated requests costs, and that it finds them. Starts two installations of its
 * own, one with SLUICE_RESEND_WINDOW_SECONDS=0, and sends to both at the same time requests that are all new,
 * so that what the machine does beside it falls on both alike: CPU of the gateway and of Redis, from the
 * first request until everything is stored. Take --duration 10 or more. Then it sends requests twice, in
 * every way in which a client may.
 */
import type { ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Signal } from '../../src/model/signal.ts';
import type { BenchReport } from '../bench.ts';
import { createCorpus } from '../corpus.ts';
import { windowOfToday } from '../identity.ts';
import { Accounting } from '../measure/accounting.ts';
import { waitForItems } from '../measure/arrival.ts';
import { listenersOf } from '../measure/processes.ts';
import type { BenchOptions } from '../options.ts';
import { HttpSender } from '../send/http.ts';
import { Ledger } from '../send/ledger.ts';
import type { Sender } from '../send/sender.ts';
import { type Figure, type Measure, runClaim } from './claim.ts';
import { comparedFigures } from './parts/compared.ts';
import { median } from './parts/numbers.ts';
import { addresses, ended, freePorts, startSluice } from './programs.ts';

/** Of which the first is to get warm, and doesn't count: the median of the others does. */
const ROUNDS = 6;
const COST_PERCENT_MAX = 5;
/** Requests of each way of sending twice. */
const REPEATED = 500;
/** Items of one of them: few, since it is requests that are looked up. */
const REPEATED_ITEMS = 20;

const NONE = { better: 'less', must: undefined, aim: undefined } as const;

interface Gateway {
  readonly pid: number;
  readonly httpPort: number;
  readonly adminPort: number;
}

interface Installation {
  readonly gateways: readonly [Gateway, Gateway];
  readonly redisPid: number;
  readonly clickhouse: string;
}

/** CPU seconds for each item, of one installation in one round. */
interface Cost {
  readonly gateway: number;
  readonly redis: number;
}

/** One round: with and without. */
type Pair = readonly [on: Cost, off: Cost];

await runClaim({
  name: 'resend',
  description: 'CPU for recognising repeated requests, and how many are found; starts everything itself.',
  body: async (options, measure) => {
    const running: ChildProcess[] = [];
    const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    try {
      const on = await startOne(join(folder, 'on'), 'auto', running);
      const off = await startOne(join(folder, 'off'), '0', running);
      const cost = await costOf(on, off, options, measure);
      return [...cost, ...(await hitsOf(on, options))];
    } finally {
      for (const child of running.reverse()) await ended(child);
      rmSync(folder, { recursive: true, force: true });
    }
  },
});

/** `sluice up`, and two gateways beside it. @param running gets each process as soon as it runs */
async function startOne(
  folder: string,
  windowSeconds: string,
  running: ChildProcess[],
): Promise<Installation> {
  const first = await freePorts(12);
  const [http, tcp, redis] = [first, first + 1, first + 2];
  const clickhouse = `http://127.0.0.1:${http}`;
  const common = {
    SLUICE_LOG_LEVEL: 'warn',
    SLUICE_RETENTION_DAYS_TRACES: '0',
    SLUICE_RESEND_WINDOW_SECONDS: windowSeconds,
    // Requests that a busy machine's gateway refuses cost something too: then the two would differ by chance.
    SLUICE_PRESSURE_EVENT_LOOP_MS_MAX: '600000',
  };
  const up = await startSluice('up', {
    ...common,
    ...addresses(first + 3),
    SLUICE_DATA_DIR: folder,
    SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT: String(http),
    SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT: String(tcp),
    SLUICE_EMBEDDED_REDIS_PORT: String(redis),
  });
  running.push(up);
  const gateway = async (from: number): Promise<Gateway> => {
    const child = await startSluice('gateway', {
      ...common,
      ...addresses(from),
      SLUICE_REDIS_URL: `redis://127.0.0.1:${redis}/0`,
      SLUICE_CLICKHOUSE_URL: clickhouse,
    });
    running.push(child);
    return { pid: child.pid ?? 0, httpPort: from + 1, adminPort: from + 2 };
  };
  const [redisProcess] = listenersOf([{ role: 'redis', port: redis }]);
  if (redisProcess === undefined) throw new Error('the Redis of sluice up is not among the processes');
  const gateways = [await gateway(first + 6), await gateway(first + 9)] as const;
  return { gateways, redisPid: redisProcess.pid, clickhouse };
}

async function costOf(
  on: Installation,
  off: Installation,
  options: BenchOptions,
  measure: Measure,
): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const signal of options.signals) {
    const rounds: Pair[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const loads = [on, off].map((one) => () => measure(changeFor(one, signal)));
      // Neither is always the first to send.
      if (round % 2 === 1) loads.reverse();
      const reports = await Promise.all(loads.map((load) => load()));
      if (round % 2 === 1) reports.reverse();
      const [first, second] = reports.map(costIn);
      if (round > 0 && first !== undefined && second !== undefined) rounds.push([first, second]);
    }
    figures.push(
      ...costFigures(`${signal}, gateway`, rounds, ({ gateway }) => gateway),
      ...costFigures(`${signal}, gateway and Redis`, rounds, ({ gateway, redis }) => gateway + redis),
    );
  }
  return figures;
}

function costIn({ processes, acknowledged: { items } }: BenchReport): Cost {
  const cpuOf = (role: string) => processes.find((one) => one.role === role)?.cpuSeconds ?? Number.NaN;
  return { gateway: cpuOf('gateway') / items, redis: cpuOf('redis') / items };
}

function changeFor({ gateways: [{ pid, httpPort }], redisPid, clickhouse }: Installation, signal: Signal) {
  return {
    signals: [signal],
    protocol: 'http-protobuf',
    targets: [{ host: '127.0.0.1', port: httpPort }],
    clickhouse,
    pids: [{ role: 'gateway', pid }, { role: 'redis', pid: redisPid }],
    freshnessMs: 0,
  } as const;
}

/** Both at the same moment are compared. */
function costFigures(name: string, rounds: readonly Pair[], of: (cost: Cost) => number): Figure[] {
  const unit = 'CPU s per million items';
  const costs = rounds.map(([on, off]) => [of(on), of(off)] as const);
  return [
    { ...NONE, name: `${name}, off`, value: median(costs.map(([, off]) => off)) * 1e6, unit },
    { ...NONE, name: `${name}, on`, value: median(costs.map(([on]) => on)) * 1e6, unit },
    ...comparedFigures(name, costs, COST_PERCENT_MAX),
  ];
}

/** Each request goes to the first gateway, and a second time as the name says. */
async function hitsOf(installation: Installation, options: BenchOptions): Promise<Figure[]> {
  const { gateways, clickhouse } = installation;
  const [on, other] = gateways;
  const run = randomInt(1, 2 ** 32 - 1);
  const window = windowOfToday(Date.now());
  const ledger = new Ledger();
  const corpus = { signal: 'traces', format: 'protobuf', seed: options.seed, run, window } as const;
  const [template] = createCorpus({ ...corpus, requests: 1, requestItems: REPEATED_ITEMS });
  if (template === undefined) throw new Error('a corpus of one request');
  const senderTo = ({ httpPort }: Gateway): Sender =>
    new HttpSender({
      target: { host: '127.0.0.1', port: httpPort },
      format: 'protobuf',
      compression: 'none',
      timeoutMs: options.timeoutMs,
    });
  const [first, sameAgain, elsewhere] = [senderTo(on), senderTo(on), senderTo(other)];
  const accounting = new Accounting(clickhouse, options.database);
  try {
    const figures: Figure[] = [];
    const ways: [string, Sender, boolean][] = [
      ['again to the same gateway', sameAgain, false],
      ['again to another gateway', elsewhere, false],
      ['twice at once to the same gateway', sameAgain, true],
      ['at once to two gateways', elsewhere, true],
    ];
    for (const [name, second, atOnce] of ways) {
      const before = (await repeatsOf(on)) + (await repeatsOf(other));
      for (let sent = 0; sent < REPEATED; sent++) {
        const request = ledger.issue(template.items);
        template.stamp(request);
        // Over HTTP the frame is only read, so one does for both.
        const one = first.send('traces', template.frame);
        if (!atOnce) await one;
        const answers = await Promise.all([one, second.send('traces', template.frame)]);
        const refused = answers.find(({ kind }) => kind !== 'acknowledged');
        if (refused !== undefined) throw new Error(`${name}: ${refused.code} ${refused.message}`);
        ledger.acknowledge(request, 0);
      }
      const found = (await repeatsOf(on)) + (await repeatsOf(other)) - before;
      const value = (found / REPEATED) * 100;
      const hits = { name: `sent ${name}`, value, unit: '% recognised', must: 100, aim: undefined } as const;
      figures.push({ ...hits, better: 'more' });
    }
    const sent = [{ signal: 'traces', ledger }] as const;
    const wanted = { sent, run, window, rowsBefore: 0, probeRows: () => 0 };
    const { audits } = await waitForItems(accounting, wanted, options.waitMs);
    const [{ missing, doubled } = { missing: Number.NaN, doubled: Number.NaN }] = audits;
    figures.push({ ...NONE, name: 'sent twice, missing', value: missing, unit: 'items', must: 0 });
    figures.push({ ...NONE, name: 'sent twice, stored twice', value: doubled, unit: 'items', must: 0 });
    return figures;
  } finally {
    for (const sender of [first, sameAgain, elsewhere]) sender.close();
    await accounting.close();
  }
}

/** Requests that a gateway says it has recognised as repeated, wherever it found them. */
async function repeatsOf({ adminPort }: Gateway): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${adminPort}/metrics`);
  const counts = (await answer.text()).matchAll(/^sluice_requests_repeated_total\{.*\} (\d+)/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}
