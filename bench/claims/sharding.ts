/**
 * Claim: what sharing rows out over shards costs a gateway. Starts an installation of its own for each number
 * of shards, on free ports and in a folder of its own, one after another, and takes them in turns, so that
 * what the machine does beside it falls on all of them alike. Take --duration 10 or more.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchOptions } from '../options.ts';
import { type Figure, type Measure, runClaim } from './claim.ts';
import { addresses, ended, freePorts, startSluice } from './programs.ts';

const SHARDS = [1, 2, 8] as const;
const ROUNDS = 3;
const COST_PERCENT_MAX = 5;

await runClaim({
  name: 'sharding',
  description: `CPU of a gateway per item with ${SHARDS.join(', ')} shards; starts everything itself.`,
  body: async (options, measure) => {
    const best = new Map<string, number>();
    for (let round = 0; round < ROUNDS; round++) {
      for (const shards of SHARDS) {
        for (const [signal, cpu] of await cpuWith(shards, options, measure)) {
          const key = `${signal} ${shards}`;
          best.set(key, Math.min(cpu, best.get(key) ?? Number.POSITIVE_INFINITY));
        }
      }
    }
    return options.signals.flatMap((signal) => figuresOf(signal, best));
  },
});

function figuresOf(signal: string, best: ReadonlyMap<string, number>): Figure[] {
  const alone = best.get(`${signal} 1`) ?? Number.NaN;
  return SHARDS.flatMap((shards): Figure[] => {
    const value = best.get(`${signal} ${shards}`) ?? Number.NaN;
    const name = `${signal}, ${shards} shard${shards === 1 ? '' : 's'}`;
    const none = { better: 'less', must: undefined, aim: undefined } as const;
    const cpu: Figure = { name, value, unit: 'CPU s per million items', ...none };
    if (shards === 1) return [cpu];
    const percent = (value / alone - 1) * 100;
    const cost: Figure = { ...none, name, value: percent, unit: '% more', must: COST_PERCENT_MAX };
    return [cpu, cost];
  });
}

/** A gateway of its own beside `sluice up`, so that its CPU is not mixed with a writer's. */
async function cpuWith(shards: number, options: BenchOptions, measure: Measure): Promise<[string, number][]> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  const first = await freePorts(2 * shards + 7);
  const [httpFrom, tcpFrom, redis] = [first, first + shards, first + 2 * shards];
  const common = { SLUICE_LOG_LEVEL: 'warn', SLUICE_RETENTION_DAYS_TRACES: '0' };
  const running: ChildProcess[] = [];
  try {
    const up = {
      ...common,
      ...addresses(redis + 1),
      SLUICE_DATA_DIR: folder,
      SLUICE_EMBEDDED_SHARDS: String(shards),
      SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT: String(httpFrom),
      SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT: String(tcpFrom),
      SLUICE_EMBEDDED_REDIS_PORT: String(redis),
    };
    running.push(await startSluice('up', up));
    const gateway = await startSluice('gateway', {
      ...common,
      ...addresses(redis + 4),
      SLUICE_REDIS_URL: `redis://127.0.0.1:${redis}/0`,
      SLUICE_CLICKHOUSE_URL: `http://127.0.0.1:${httpFrom}`,
      SLUICE_CLICKHOUSE_CLUSTER: shards === 1 ? '' : 'sluice',
    });
    running.unshift(gateway);
    const change = {
      protocol: 'http-protobuf',
      targets: [{ host: '127.0.0.1', port: redis + 5 }],
      clickhouse: `http://127.0.0.1:${httpFrom}`,
      pids: [{ role: 'gateway', pid: gateway.pid ?? 0 }],
      freshnessMs: 0,
    } as const;
    const figures: [string, number][] = [];
    for (const signal of options.signals) {
      const { processes, acknowledged } = await measure({ ...change, signals: [signal] });
      figures.push([signal, ((processes[0]?.cpuSeconds ?? Number.NaN) / acknowledged.items) * 1e6]);
    }
    return figures;
  } finally {
    for (const child of running) await ended(child);
    rmSync(folder, { recursive: true, force: true });
  }
}
