/**
 * The gateway, from the sink back: batches in Redis, group commits, transcoders, the door, the two ports.
 * Start reading here: everything that a request passes is built in this file, in the opposite order.
 */
import { Cardinality } from '../admit/cardinality.ts';
import { openTls } from '../base/tls.ts';
import { createFrameCompressor } from '../compress/frame.ts';
import type { SealedBatch } from '../model/batch.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { BatchStore } from '../queue/batch-store.ts';
import { GroupCommit, type Placing } from '../queue/commit.ts';
import type { JobQueue } from '../queue/jobs.ts';
import type { ResendWindow } from '../queue/resend-window.ts';
import type { Routing } from '../queue/routing.ts';
import { Sealer } from '../queue/sealer.ts';
import { listenGrpc } from '../receive/grpc.ts';
import { listenHttp } from '../receive/http.ts';
import type { RedisCommands } from '../redis/client.ts';
import { createOpenBlocks } from '../transcode/open-blocks.ts';
import { GatewayAdmission } from './admission.ts';
import { GatewayIngest } from './ingest.ts';
import { LargeLane } from './large-lane.ts';
import type { Placements } from './placements.ts';
import type { Pressure } from './pressure.ts';
import { Recognition } from './recognition.ts';
import type { RoleContext } from './roles.ts';
import type { RoleRouting } from './routing.ts';
import { Screening } from './screening.ts';
import { PerShard } from './shards.ts';

/** How often what this gateway remembers is fitted to its memory. */
const ADAPT_EVERY_MS = 1_000;

export interface GatewayParts {
  /** Connected. */
  readonly store: BatchStore;
  readonly pressure: Pressure;
  readonly jobs: PerShard<JobQueue>;
  /** Known. */
  readonly routing: RoleRouting;
  /** Of the routing. */
  readonly placements: Placements;
  /** Known. */
  readonly window: ResendWindow;
  /** Whether clients should come here, for the gRPC health service. @param who the address that asks */
  readonly ready: (who: string) => boolean;
}

export interface Gateway {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Brings this gateway's gauges up to date. */
  refresh(): void;
  /** The metrics with most time series. */
  series(): object;
}

/**
 * Resolves when both ports take data.
 * @throws ConfigurationError when a port can't be had
 */
export async function startGateway(context: RoleContext, parts: GatewayParts): Promise<Gateway> {
  const { settings, live, instruments, logger, lifecycle } = context;
  const { pressure, routing, placements, window, ready } = parts;
  const seriesSeed = seedOf(window);
  const commits = await startCommits(context, parts, seriesSeed);
  const lane = startLane(context, seriesSeed);
  let placing: Placing = { generation: 0, weights: [1] };
  routing.onChange(({ generation, shards }: Routing) => {
    placing = { generation, weights: shards.map(({ weight }) => weight) };
    for (const signal of SIGNALS) commits[signal].route(placing);
  });

  const recognition = new Recognition({ settings, window, placements, instruments });
  const adapting = setInterval(() => recognition.refresh(), ADAPT_EVERY_MS);
  lifecycle.add('recognition', async () => clearInterval(adapting));
  const { redis } = parts.store;
  const admission = new GatewayAdmission(context, pressure, redis);
  admission.start();
  lifecycle.add('admission', () => admission.stop());
  const screening = startScreening(context, redis, (tenant) => admission.nameOf(tenant));
  live.onChange(({ resend }) => {
    window.update(resend);
    placements.update(resend);
  });
  const ingest = new GatewayIngest({
    receive: settings.receive,
    commits,
    lane,
    placing: () => placing,
    placements,
    recognition,
    screening,
    charge: (tenant, signal, taken) => admission.charge(tenant, signal, taken),
    instruments,
  });

  const { sourceHeader } = settings.resend;
  const tls = openTls({
    port: 'OTLP',
    env: 'SLUICE_RECEIVE_TLS',
    settings: settings.receive.tls,
    logger,
    onCertificate: (notAfter) => {
      for (const port of ['grpc', 'http']) instruments.certificateExpiry.set({ port }, notAfter);
    },
  });
  lifecycle.add('certificates', async () => tls?.close());
  const ends = { sourceHeader, ingest, door: admission };
  const listening = { ...settings.receive, ...ends, instruments, logger, tls };
  const health = (who: string) => (ready(who) ? 'SERVING' : 'NOT_SERVING');
  const grpc = await listenGrpc({ ...listening, addr: settings.receive.grpcAddr, health });
  lifecycle.add('door', async () => admission.close());
  lifecycle.add('gRPC port', (msMax) => grpc.close(msMax));
  const http = await listenHttp({ ...listening, addr: settings.receive.httpAddr });
  // Together, and with the door still open: what comes on open connections is taken, and its answer says that
  // the next one should go elsewhere.
  lifecycle.add('ports', async (msMax) => {
    await Promise.all([http.close(msMax), grpc.close(msMax)]);
  });
  const series = () => screening.series();
  return { grpcPort: grpc.port, httpPort: http.port, refresh: () => ingest.refresh(), series };
}

function startLane({ settings, logger, lifecycle }: RoleContext, seriesSeed: number): LargeLane {
  const { requestBytesMax, nestingMax } = settings.receive;
  const { engine } = settings.transcode;
  const { zstdLevel, bytesMax: fragmentBytesMax } = settings.fragment;
  const made = { engine, nestingMax, requestBytesMax, zstdLevel, fragmentBytesMax, seriesSeed };
  const lane = new LargeLane(made, logger);
  lifecycle.add('large lane', () => lane.close());
  return lane;
}

function startScreening(
  { live, instruments, logger, lifecycle }: RoleContext,
  redis: RedisCommands,
  labelOf: (tenant: string) => string,
): Screening {
  const settings = () => live.current.limits;
  const cardinality = new Cardinality({ settings, redis, instruments, logger, labelOf });
  cardinality.start();
  lifecycle.add('cardinality', async () => cardinality.stop());
  const screening = new Screening(live.current, { cardinality, instruments });
  live.onChange((changed) => screening.update(changed));
  return screening;
}

/** Of the hashes of time series: the same for all gateways, and nothing that a client could know. */
function seedOf(window: ResendWindow): number {
  return Buffer.from(window.key).readUInt32LE();
}

/** One group commit a signal, so that a large block of one doesn't hold up the others. */
async function startCommits(
  { settings, instruments, logger, lifecycle }: RoleContext,
  { store, jobs, routing }: GatewayParts,
  seriesSeed: number,
): Promise<Record<Signal, GroupCommit>> {
  const compressor = createFrameCompressor(settings.fragment.zstdLevel);
  const { ageMsMax } = settings.batch;
  const sealers = new PerShard((shard) => {
    const onSealed = (batches: readonly SealedBatch[]) => jobs.of(shard).offer(batches);
    return new Sealer({ shard, ageMsMax, store, onSealed, instruments, logger });
  });
  lifecycle.add('sealers', async () => {
    for (const sealer of sealers.all) sealer.stop();
  });
  const limits = { nestingMax: settings.receive.nestingMax, seriesSeed };
  const commits: Partial<Record<Signal, GroupCommit>> = {};
  for (const signal of SIGNALS) {
    const openBlocks = () => createOpenBlocks(signal, settings.transcode.engine, limits);
    commits[signal] = new GroupCommit({
      signal,
      blocks: await openBlocks(),
      spareBlocks: openBlocks,
      compressor,
      store,
      instruments,
      logger,
      onStored: (shard, result) => sealers.of(shard).stored(result),
      onOvertaken: () => routing.hurry(),
      fragmentBytesMax: settings.fragment.bytesMax,
    });
  }
  const all = commits as Record<Signal, GroupCommit>;
  lifecycle.add('group commits', async () => {
    await Promise.all(SIGNALS.map((signal) => all[signal].drain()));
  });
  return all;
}
