/**
 * Runs a role until it is told to stop: settings, Redis, the parts of the role, the admin port, the ready
 * line.
 */
import { createLogger, type Logger } from '../base/log.ts';
import { type Loaded, loadSettings } from '../config/load.ts';
import { showAddress } from '../config/kinds.ts';
import type { Settings } from '../config/settings.ts';
import { type Instruments, createInstruments } from '../metrics/instruments.ts';
import { listenAdmin } from '../operate/admin.ts';
import type { Check } from '../operate/checks.ts';
import { BatchStore } from '../queue/batch-store.ts';
import { JobQueue } from '../queue/jobs.ts';
import { Books } from './books.ts';
import { type Gateway, startGateway } from './gateway.ts';
import { Lifecycle, untilSignalled } from './lifecycle.ts';
import { awaitRedis, queueBytesMax } from './redis.ts';
import { applyMigrations, startEmbedded } from './up.ts';
import { SHARD } from './shard.ts';
import { startWriter } from './writer.ts';

export type Role = 'up' | 'all' | 'gateway' | 'writer';

/** What every part of a role is built with. */
export interface RoleContext {
  readonly settings: Settings;
  readonly instruments: Instruments;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
}

interface State {
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
  if (role === 'up') await applyMigrations(settings, version, logger);
  if (lifecycle.stopping) return;
  const context: RoleContext = { settings, instruments, logger, lifecycle };

  const store = new BatchStore({ ...settings, logger });
  lifecycle.add('Redis', async () => store.close());
  const books = new Books(store, instruments, logger);
  lifecycle.add('books', async () => books.close());
  const state: State = { started: false, gateway: undefined };
  const adminPort = await startAdmin(context, store, books, state);

  const facts = await awaitRedis(store, settings.redis, logger, () => lifecycle.stopping);
  if (facts === undefined) return;
  books.bytesMax = queueBytesMax(settings.queue.bytesMax, facts);
  const jobs = new JobQueue({ ...settings, shard: SHARD, logger });
  lifecycle.add('job queue', (msMax) => jobs.close(msMax));
  if (role !== 'gateway') startWriter(context, store, jobs);
  if (role !== 'writer') {
    const ready = () => checkReady(context, store, books).every(({ ok }) => ok);
    state.gateway = await startGateway(context, { store, books, jobs, ready });
  }
  state.started = true;
  await books.refresh();
  if (lifecycle.stopping) return;
  console.log(readyLine(settings, state.gateway, adminPort));
}

async function startAdmin(
  context: RoleContext,
  store: BatchStore,
  books: Books,
  state: State,
): Promise<number> {
  const { settings, instruments, logger, lifecycle } = context;
  const admin = await listenAdmin({
    addr: settings.admin.addr,
    instruments,
    logger,
    // A process that can answer this is alive; what is wrong with its neighbours is for /ready to say.
    health: () => [{ name: 'process', ok: true, figure: 'running', limit: 'running' }],
    ready: () => checkReady(context, store, books),
    startup: () => [{ name: 'started', ok: state.started, figure: String(state.started), limit: 'true' }],
    refresh: async () => {
      state.gateway?.refresh();
      await books.refresh();
    },
  });
  lifecycle.add('admin port', () => admin.close());
  return admin.port;
}

function checkReady({ lifecycle }: RoleContext, store: BatchStore, books: Books): Check[] {
  const draining = lifecycle.stopping;
  const connected = store.connection.ready;
  const full = books.queueBytes >= books.bytesMax;
  return [
    { name: 'draining', ok: !draining, figure: String(draining), limit: 'false' },
    { name: 'redis', ok: connected, figure: connected ? 'connected' : 'away', limit: 'connected' },
    { name: 'queue_bytes', ok: !full, figure: String(books.queueBytes), limit: String(books.bytesMax) },
  ];
}

function readyLine({ receive, admin }: Settings, gateway: Gateway | undefined, adminPort: number): string {
  const at = `admin http://${showAddress({ ...admin.addr, port: adminPort })}`;
  if (!gateway) return `sluice ready: writer, ${at}`;
  const grpc = showAddress({ ...receive.grpcAddr, port: gateway.grpcPort });
  const http = showAddress({ ...receive.httpAddr, port: gateway.httpPort });
  return `sluice ready: OTLP gRPC ${grpc}, OTLP HTTP ${http}, ${at}`;
}
