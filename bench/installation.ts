/**
 * An installation of a claim's own whose parts can be killed one by one: a Redis, ClickHouse servers that are
 * replicas of one shard (they don't share their data: this is for how long things take), gateways, writers.
 */
import { type ChildProcess, execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { sleep, tickMs } from '../src/base/clock.ts';
import { createLogger } from '../src/base/log.ts';
import { startEmbeddedClickHouse } from '../src/embedded/clickhouse.ts';
import { startEmbeddedRedis } from '../src/embedded/redis.ts';
import type { EmbeddedService } from '../src/embedded/service.ts';
import { addresses, ended, freePorts, startSluice } from './claims/programs.ts';
import type { Target } from './send/sender.ts';

const SLUICE = resolve(import.meta.dirname, '../bin/sluice');
const CLUSTER = 'bench';
const logger = createLogger('warn', 'json');

export interface InstallationOptions {
  readonly redisBytesMax: number;
  /** Above 1: a cluster of one shard. */
  readonly clickhouses: number;
  readonly gateways: number;
  readonly writers: number;
  /** SLUICE_…, of all programs. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Something between the programs and a ClickHouse: gets its port, gives the port of the other. */
  readonly between?: (port: number) => Promise<number>;
}

/** A gateway or a writer. */
export class Member {
  readonly process: ChildProcess;
  readonly target: Target;
  readonly grpcTarget: Target;
  readonly #admin: string;

  constructor(process: ChildProcess, firstPort: number) {
    this.process = process;
    this.target = { host: '127.0.0.1', port: firstPort + 1 };
    this.grpcTarget = { host: '127.0.0.1', port: firstPort };
    this.#admin = `http://127.0.0.1:${firstPort + 2}`;
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  /** The sum of the samples of /metrics with this name (without its prefix). */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.#admin}/metrics`)).text();
    const samples = text.matchAll(new RegExp(`^sluice_${name}(?:\\{.*\\})? (\\S+)$`, 'gm'));
    return [...samples].reduce((sum, [, value]) => sum + Number(value), 0);
  }

  /** kill -9 */
  async kill(): Promise<void> {
    const exit = new Promise((gone) => this.process.once('exit', gone));
    this.process.kill('SIGKILL');
    await exit;
  }
}

/** A ClickHouse that keeps its folder and its ports. */
export class Server {
  readonly url: string;
  readonly #start: () => Promise<EmbeddedService>;
  #service: EmbeddedService | undefined;

  constructor(url: string, start: () => Promise<EmbeddedService>) {
    this.url = url;
    this.#start = start;
  }

  get pid(): number {
    return this.#service?.pid ?? 0;
  }

  /** Resolves when it answers. */
  async start(): Promise<void> {
    this.#service = await this.#start();
  }

  /** kill -9 */
  async kill(): Promise<void> {
    process.kill(this.pid, 'SIGKILL');
    await this.#service?.ended;
  }

  async stop(): Promise<void> {
    await this.#service?.stop();
  }
}

export class Installation {
  readonly clickhouses: Server[] = [];
  readonly gateways: Member[] = [];
  readonly writers: Member[] = [];
  readonly #options: InstallationOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  #redis: EmbeddedService | undefined;
  #environment: Record<string, string> = {};

  private constructor(options: InstallationOptions) {
    this.#options = options;
  }

  /** Resolves when everything takes data. The caller stops it. */
  static async start(options: InstallationOptions): Promise<Installation> {
    const installation = new Installation(options);
    try {
      await installation.#startAll();
      return installation;
    } catch (error) {
      await installation.stop();
      throw error;
    }
  }

  get redisPid(): number {
    return this.#redis?.pid ?? 0;
  }

  async addGateway(): Promise<Member> {
    return this.#add('gateway', this.gateways);
  }

  async addWriter(): Promise<Member> {
    return this.#add('writer', this.writers);
  }

  /**
   * Waits until every batch is written that was sealed before now, as the writer sees it.
   * @returns how long it took; undefined: longer than `msMax`
   */
  async untilWritten(writer: Member, msMax: number): Promise<number | undefined> {
    const fromMs = tickMs();
    for (;;) {
      const oldestMs = (await writer.metric('queue_oldest_age_seconds')) * 1000;
      const tookMs = tickMs() - fromMs;
      if (oldestMs < tookMs) return tookMs;
      if (tookMs > msMax) return undefined;
      await sleep(50);
    }
  }

  async stop(): Promise<void> {
    for (const { process } of [...this.gateways, ...this.writers]) await ended(process);
    for (const server of this.clickhouses) await server.stop();
    await this.#redis?.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #startAll(): Promise<void> {
    const { redisBytesMax, clickhouses, gateways, writers, settings = {} } = this.#options;
    const first = await freePorts(1 + 2 * clickhouses);
    const dataDir = join(this.#folder, 'redis');
    this.#redis = await startEmbeddedRedis({ dataDir, port: first, memoryBytesMax: redisBytesMax, logger });
    for (let replica = 0; replica < clickhouses; replica++) {
      const server = this.#server(replica, first + 1, first + 1 + clickhouses);
      await server.start();
      this.clickhouses.push(server);
    }
    const { between } = this.#options;
    const urls = this.clickhouses.map(async ({ url }) =>
      between === undefined ? url : `http://127.0.0.1:${await between(Number(new URL(url).port))}`,
    );
    this.#environment = {
      SLUICE_LOG_LEVEL: 'warn',
      SLUICE_RETENTION_DAYS_TRACES: '0',
      SLUICE_REDIS_URL: this.#redis.url,
      SLUICE_CLICKHOUSE_URL: (await Promise.all(urls)).join(','),
      SLUICE_CLICKHOUSE_CLUSTER: clickhouses > 1 ? CLUSTER : '',
      SLUICE_CLICKHOUSE_REPLICATION: 'off',
      ...settings,
    };
    await promisify(execFile)(SLUICE, ['migrate', 'apply'], {
      env: { PATH: process.env.PATH, ...this.#environment },
    });
    for (let writer = 0; writer < writers; writer++) await this.addWriter();
    for (let gateway = 0; gateway < gateways; gateway++) await this.addGateway();
  }

  #server(replica: number, httpFrom: number, tcpFrom: number): Server {
    const { clickhouses } = this.#options;
    const tcpPorts = Array.from({ length: clickhouses }, (_, index) => tcpFrom + index);
    const start = () =>
      startEmbeddedClickHouse({
        dataDir: join(this.#folder, `clickhouse-${replica}`),
        httpPort: httpFrom + replica,
        tcpPort: tcpFrom + replica,
        configXml: clickhouses > 1 ? replicasXml(tcpPorts, replica) : '',
        logger,
      });
    return new Server(`http://127.0.0.1:${httpFrom + replica}`, start);
  }

  async #add(role: 'gateway' | 'writer', members: Member[]): Promise<Member> {
    const first = await freePorts(3);
    const member = new Member(await startSluice(role, { ...this.#environment, ...addresses(first) }), first);
    members.push(member);
    return member;
  }
}

/** One shard of several servers. */
function replicasXml(tcpPorts: readonly number[], replica: number): string {
  const replicas = tcpPorts.map(
    (port) => `<replica><host>127.0.0.1</host><port>${port}</port></replica>`,
  );
  const shard = `<shard><internal_replication>true</internal_replication>${replicas.join('')}</shard>`;
  const macros = `<macros><shard>01</shard><replica>r${replica + 1}</replica></macros>`;
  return `<remote_servers><${CLUSTER}>${shard}</${CLUSTER}></remote_servers>${macros}`;
}
