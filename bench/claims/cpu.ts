/**
 * Claim: what an item costs. CPU of gateway, writer and Redis per million spans, log records and data points,
 * over HTTP and over gRPC, from the first request until everything is stored; and ClickHouse's own per
 * million spans, until its merges have come to rest. Take an empty database and a --duration of 20 s or
 * more: a short run's few parts are merged with what was there before, and that is charged to it.
 */
import { Option } from 'commander';
import { type Signal, SIGNALS } from '../../src/model/signal.ts';
import type { BenchReport } from '../bench.ts';
import { CLICKHOUSE } from '../measure/roles.ts';
import { parseTargets } from '../options.ts';
import type { Target } from '../send/sender.ts';
import { type Figure, runClaim } from './claim.ts';

const BOUNDS: Readonly<Record<Signal, { readonly must: number; readonly aim: number }>> = {
  traces: { must: 3.5, aim: 1.8 },
  logs: { must: 3.2, aim: 1.5 },
  metrics: { must: 2.6, aim: 1.2 },
};
/** What gRPC may cost beyond HTTP. */
const GRPC = { must: 1, aim: 0.3 };
const CLICKHOUSE_SPANS = { must: 6.5, aim: 5 };
const SETTLE_MS = 180_000;

const UNIT = 'CPU s per million items';

await runClaim({
  name: 'cpu',
  description: 'CPU per million items of gateway, writer and Redis, and of ClickHouse for spans.',
  extend: (command) => {
    const grpc = new Option('--grpc <host:port,…>', 'where to for gRPC; --target is for HTTP here');
    command.addOption(
      grpc.argParser(parseTargets).default([{ host: '127.0.0.1', port: 4317 }], '127.0.0.1:4317'),
    );
  },
  body: async (_, measure, command) => {
    const { grpc } = command.opts<{ grpc: Target[] }>();
    const figures: Figure[] = [];
    for (const signal of SIGNALS) {
      const common = { signals: [signal], freshnessMs: 0 };
      const settleMs = signal === 'traces' ? SETTLE_MS : 0;
      const overHttp = await measure({ ...common, protocol: 'http-protobuf', settleMs });
      const overGrpc = await measure({ ...common, protocol: 'grpc', targets: grpc });
      const http = cpuOf(overHttp, (role) => role !== CLICKHOUSE);
      const extra = cpuOf(overGrpc, (role) => role !== CLICKHOUSE) - http;
      figures.push({
        name: `${signal} over HTTP`,
        value: http,
        unit: UNIT,
        better: 'less',
        ...BOUNDS[signal],
      });
      figures.push({
        name: `${signal} over gRPC, beyond HTTP`,
        value: extra,
        unit: UNIT,
        better: 'less',
        ...GRPC,
      });
      if (signal !== 'traces') continue;
      const own = cpuOf(overHttp, (role) => role === CLICKHOUSE);
      const name = overHttp.storage?.settled
        ? 'ClickHouse, traces'
        : 'ClickHouse, traces, merges not at rest';
      figures.push({ name, value: own, unit: UNIT, better: 'less', ...CLICKHOUSE_SPANS });
    }
    return figures;
  },
});

function cpuOf(report: BenchReport, only: (role: string) => boolean): number {
  const processes = report.processes.filter(({ role }) => only(role));
  if (processes.length === 0)
    throw new Error('found no processes to measure: name them with --pids role=pid,…');
  const seconds = processes.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
  return (seconds / report.acknowledged.items) * 1e6;
}
