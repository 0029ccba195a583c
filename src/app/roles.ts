/**
 * Runs a role until it is told to stop: settings, Redis, the parts of the role, the admin port, the ready
 * line.
 */
import { sleep } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import { createLogger, type Logger } from '../base/log.ts';
import { openTls } from '../base/tls.ts';
import { createClickHouse } from '../clickhouse/client.ts';
import type { LiveSettings } from '../config/live.ts';
import { type Loaded, loadSettings } from '../config/load.ts';
import { showAddress } from '../config/kinds.ts';
import type { Settings } from '../config/settings.ts';
import { type Instruments, createInstruments } from '../metrics/instruments.ts';
import type { BatchTrace } from '../model/batch.ts';
import { TABLES } from '../model/signal.ts';
import { listenAdmin } from '../operate/admin.ts';
import type { Check } from '../operate/checks.ts';
import { BatchStore } from '../queue/batch-store.ts';
import { JobQueue } from '../queue/jobs.ts';
import { keyPrefix } from '../queue/keys.ts';
import { ResendWindow } from '../queue/resend-window.ts';
import { type Routing, RoutingStore } from '../queue/routing.ts';
import { connectRedis } from '../redis/connection.ts';
import { Strain } from '../write/strain.ts';
import { Books } from './books.ts';
import { DriftWatch } from './drift.ts';
import { createEyes } from './eyes.ts';
import { type Gateway, startGateway } from './gateway.ts';
import { Lifecycle, untilSignalled } from './lifecycle.ts';
import { startLive } from './live.ts';
import { Notice } from './notice.ts';
import { Pressure } from './pressure.ts';
import { awaitRedis, queueBytesMax } from './redis.ts';
import { Placements } from './placements.ts';
import { RoleRouting, localTable } from './routing.ts';
import { PerShard } from './shards.ts';
import { applyMigrations, startEmbedded } from './up.ts';
import { startWriter } from './writer.ts';

export type Role = 'up' | 'all' | 'gateway' | 'writer';

/** After a failed question to Redis during the start. */
const RETRY_MS = 200;

/** What every part of a role is built with. */
export interface RoleContext {
  /** As at the start. */
  readonly settings: Settings;
  /** As they are now. */
  readonly live: LiveSettings;
  readonly instruments: Instruments;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
}

/** What the admin port tells of. */
interface Parts {
  readonly store: BatchStore;
  readonly routing: RoleRouting;
  readonly books: Books;
  readonly pressure: Pressure;
  readonly placements: Placements;
  readonly notice: Notice;
  started: boolean;
  gateway: Gateway | undefined;
}

/**
 * @returns the exit code. @throws ConfigurationError or Fault when the start fails; everything is stopped
 *   then.
 */
export async function runRole(role: Role, version: string): Promise<number> {
  const loaded = loadSettings();
  const logger = createLogger(loaded.settings.log.level, loaded.settings.log.format);
  for (const warning of loaded.warnings) logger.warn(warning);
  const lifecycle = new Lifecycle(logger, loaded.settings.drain.msMax);
  const exitCode = untilSignalled(lifecycle, logger);
  try {
    await startRole(role, version, loaded, lifecycle, logger);
  } catch (error) {
    // A signal during the start takes away what the rest of the start needs: that is no failure.
    if (lifecycle.stopping) return exitCode;
    await lifecycle.stop('the start failed');
    throw error;
  }
  return exitCode;
}

async function startRole(
  role: Role,
  version: string,
  loaded: Loaded,
  lifecycle: Lifecycle,
  logger: Logger,
): Promise<void> {
  const instruments = createInstruments();
  instruments.buildInfo.set({ version, engine: loaded.settings.transcode.engine }, 1);
  const settings = role === 'up' ? await startEmbedded(loaded, lifecycle, logger) : loaded.settings;
  if (role === 'up') await applyMigrations(loaded, settings, version, logger);
  if (lifecycle.stopping) return;
  const live = startLive(loaded, { settings, instruments, logger, lifecycle });
  const context: RoleContext = { settings, live, instruments, logger, lifecycle };

  const parts = createParts(role, context);
  const { store, books, pressure, routing } = parts;
  const adminPort = await startAdmin(context, parts);

  const facts = await awaitRedis(store, settings.redis, logger, () => lifecycle.stopping);
  if (facts === undefined) return;
  await routing.first();
  // Each shard lies on one master of a cluster, and the first that is full stops its shard.
  const bound = () => {
    const homes = (routing.current?.shards ?? []).map((_, shard) => {
      const home = store.redis.homeOf(keyPrefix(shard));
      return home && showAddress(home);
    });
    books.bytesMax = queueBytesMax(live.current.queue.bytesMax, facts, homes);
  };
  routing.onChange(bound);
  live.onChange(bound);
  if (lifecycle.stopping) return;
  pressure.start();
  const jobs = openJobQueues(context);
  if (role !== 'gateway') startWriter(context, { store, jobs, routing });
  if (role !== 'writer') {
    const { notice } = parts;
    const ready = (who: string) => {
      notice.asked(who);
      return checkReady(context, parts).every(({ ok }) => ok);
    };
    const window = await startResendWindow(context, store);
    const { placements } = parts;
    const shared = { store, pressure, jobs, routing, placements, window, ready };
    parts.gateway = await startGateway(context, shared);
    // Last, so that it comes first when all is stopped.
    lifecycle.add('notice', (msMax) => notice.given(msMax / 2));
  }
  routing.start();
  parts.started = true;
  await books.refresh();
  if (lifecycle.stopping) return;
  console.log(readyLine(settings, parts.gateway, adminPort));
}

/** Nothing of it is connected yet. */
function createParts(role: Role, context: RoleContext): Parts {
  const { settings, live, instruments, logger, lifecycle } = context;
  const store = new BatchStore({ ...settings, instruments, logger });
  lifecycle.add('Redis', async () => store.close());
  const { look, publishes } = createEyes(role, context);
  if (role !== 'gateway') {
    const drift = new DriftWatch({ settings, look, instruments, logger });
    lifecycle.add('schema drift', () => drift.stop());
    drift.start();
  }
  const placements = new Placements(store, settings.resend);
  const routing = new RoleRouting({
    store: new RoutingStore(store.redis),
    ...settings.clickhouse,
    look,
    publishes,
    ...(role === 'writer' ? {} : { adopting: (next: Routing) => placements.adopt(next) }),
    stopped: () => lifecycle.stopping,
    logger,
  });
  lifecycle.add('routing', async () => routing.stop());
  // Where there is a watch, that one says how many there are.
  if (role === 'gateway') routing.onChange(({ shards }) => instruments.topologyShards.set(shards.length));
  const books = new Books(store, () => routing.current?.shards.length ?? 0, instruments, logger);
  lifecycle.add('books', async () => books.close());
  const strain = role === 'gateway' ? undefined : startStrain(context, routing);
  const asked = { settings: () => live.current, ...(strain && { strain }) };
  const pressure = new Pressure({ store, books, role, instruments, logger, ...asked });
  lifecycle.add('pressure', () => pressure.stop());
  const notice = new Notice();
  return { store, routing, books, pressure, placements, notice, started: false, gateway: undefined };
}

/** Writers ask ClickHouse what it runs short of, from now on. */
function startStrain(context: RoleContext, routing: RoleRouting): Strain {
  const { settings, live, logger, lifecycle } = context;
  const { clickhouse } = settings;
  const strain = new Strain({
    topology: () => routing.topology,
    connect: (url, connectionsMax) => createClickHouse(url, clickhouse, logger, connectionsMax),
    database: clickhouse.database,
    tables: TABLES.map((table) => localTable(table, clickhouse.cluster)),
    bounds: () => live.current.pressure,
    logger,
  });
  lifecycle.add('strain', () => strain.stop());
  strain.start();
  return strain;
}

async function startResendWindow(
  { settings, instruments, logger, lifecycle }: RoleContext,
  { redis }: BatchStore,
): Promise<ResendWindow> {
  const window = new ResendWindow({ redis, resend: settings.resend, instruments, logger });
  for (;;) {
    try {
      await window.first();
      break;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (lifecycle.stopping) break;
      logger.debug({ reason: error.message }, 'the resend window could not be asked for');
      await sleep(RETRY_MS);
    }
  }
  window.start();
  lifecycle.add('resend window', async () => window.stop());
  return window;
}

/** Shared by gateway and writer; one connection for all shards. */
function openJobQueues({ settings, logger, lifecycle }: RoleContext): PerShard<JobQueue> {
  const redis = connectRedis(settings.redis, logger);
  const jobs = new PerShard((shard) => new JobQueue({ redis, shard, logger }));
  lifecycle.add('job queues', async (msMax) => {
    await Promise.all(jobs.all.map((queue) => queue.close(msMax)));
    redis.disconnect();
  });
  return jobs;
}

async function startAdmin(context: RoleContext, parts: Parts): Promise<number> {
  const { settings, live, instruments, logger, lifecycle } = context;
  const started = () => String(parts.started);
  const tls = openTls({
    port: 'admin',
    env: 'SLUICE_ADMIN_TLS',
    settings: settings.admin.tls,
    logger,
    onCertificate: (notAfter) => instruments.certificateExpiry.set({ port: 'admin' }, notAfter),
  });
  lifecycle.add('admin certificates', async () => tls?.close());
  const admin = await listenAdmin({
    addr: settings.admin.addr,
    tls,
    tokens: () => live.current.admin.tokens,
    reload: async () => live.reload(),
    status: () => {
      return { started: parts.started, draining: lifecycle.stopping, pressure: parts.pressure.status() };
    },
    series: () => parts.gateway?.series() ?? {},
    instruments,
    logger,
    // A process that can answer this is alive; what is wrong with its neighbours is for /ready to say.
    health: () => [{ name: 'process', ok: true, figure: 'running', limit: 'running' }],
    ready: () => checkReady(context, parts),
    readyAsked: (who) => parts.notice.asked(who),
    startup: () => [{ name: 'started', ok: parts.started, figure: started(), limit: 'true' }],
    batch: (id) => traceOf(parts, id),
    refresh: async () => {
      parts.gateway?.refresh();
      await parts.books.refresh();
      parts.pressure.refresh();
    },
  });
  lifecycle.add('admin port', () => admin.close());
  return admin.port;
}

/** On whichever shard it is. */
async function traceOf({ store, routing }: Parts, id: string): Promise<BatchTrace | undefined> {
  const shards = routing.current?.shards ?? [];
  const traces = await Promise.all(shards.map((_, shard) => store.trace(shard, id)));
  return traces.find((trace) => trace !== undefined);
}

function checkReady({ lifecycle }: RoleContext, { store, routing, books, pressure }: Parts): Check[] {
  const { alone } = pressure;
  const draining = lifecycle.stopping;
  const connected = store.redis.ready;
  const full = books.queueBytes >= books.bytesMax;
  return [
    { name: 'draining', ok: !draining, figure: String(draining), limit: 'false' },
    { name: 'redis', ok: connected, figure: connected ? 'connected' : 'away', limit: 'connected' },
    routing.check(),
    { name: 'queue_bytes', ok: !full, figure: String(books.queueBytes), limit: String(books.bytesMax) },
    { name: 'pressure', ok: alone === undefined, figure: alone ?? 'none', limit: 'none' },
  ];
}

function readyLine({ receive, admin }: Settings, gateway: Gateway | undefined, adminPort: number): string {
  const scheme = admin.tls.certFile === '' ? 'http' : 'https';
  const at = `admin ${scheme}://${showAddress({ ...admin.addr, port: adminPort })}`;
  if (!gateway) return `sluice ready: writer, ${at}`;
  const grpc = showAddress({ ...receive.grpcAddr, port: gateway.grpcPort });
  const http = showAddress({ ...receive.httpAddr, port: gateway.httpPort });
  return `sluice ready: OTLP gRPC ${grpc}, OTLP HTTP ${http}, ${at}`;
}
