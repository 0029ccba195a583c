/**
 * Real Redis topologies on loopback: a master with replicas and three sentinels, and a cluster; with passwords
 * and TLS where a test wants them. Free ports, a folder of their own, gone with the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Settings } from '../../src/config/settings.ts';
import type { RedisEndpoint } from '../../src/redis/access.ts';
import { LeanConnection } from '../../src/redis/lean.ts';
import type { Reply } from '../../src/redis/replies.ts';
import type { CommandPart } from '../../src/redis/resp.ts';
import { SLOTS, readSlots, slotOf } from '../../src/redis/slots.ts';
import { makeCertificates } from './certificates.ts';
import { eventually, freePort, makeTempDir, removeTempDir, silent } from './services.ts';
import { redisSettings } from './settings.ts';

const HOST = '127.0.0.1';
const UP_MS_MAX = 30_000;
const ASK_MS_MAX = 5_000;
/** A sentinel that has stood still for two seconds does nothing for half a minute (TILT). */
export const FAILOVER_MS_MAX = 75_000;
/** As short as a busy machine allows: one that stands still for as long has a failover too many. */
const DOWN_AFTER_MS = 2_000;

/** One redis-server or sentinel. */
export interface FarmNode {
  readonly port: number;
  /** `host:port`, as in logs and findings. */
  readonly name: string;
  /** Of the process that runs now, or ran last. */
  readonly pid: number;
  running(): boolean;
  /** Resolves when it has ended. SIGKILL unless told otherwise. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** It is there, but answers nothing; and it does again. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  /** Starts it again, on the same port and data. Resolves when it answers. */
  start(): Promise<void>;
  /** One command, over a connection of its own. @throws Fault */
  ask(...parts: CommandPart[]): Promise<Reply>;
}

export interface RedisFarm {
  /** For SLUICE_REDIS_URL. */
  readonly url: string;
  /** What has to be set beside the URL: passwords of sentinels, TLS files. */
  readonly changes: Partial<Settings['redis']>;
  /** All of it, as the program would load it. */
  settings(changes?: Partial<Settings['redis']>): Settings['redis'];
  readonly nodes: readonly FarmNode[];
  /** Who takes the writes, of this key in a cluster. */
  master(key?: string): Promise<FarmNode>;
  stop(): Promise<void>;
}

export interface SentinelTrio extends RedisFarm {
  readonly sentinels: readonly FarmNode[];
  /** Lets the sentinels demote the master and promote a replica. Resolves when they have. */
  failover(): Promise<void>;
}

export interface RedisCluster extends RedisFarm {
  /** All nodes that have slots. */
  masters(): Promise<readonly FarmNode[]>;
}

export interface FarmOptions {
  /** Of Redis itself. */
  readonly password?: string;
  /** Certificates on both sides, signed by an authority of the farm's own. */
  readonly tls?: boolean;
  /** Further arguments of every redis-server. */
  readonly args?: readonly string[];
  /** How long a server has to be silent until it counts as down. */
  readonly downAfterMs?: number;
}

export interface SentinelOptions extends FarmOptions {
  readonly sentinelPassword?: string;
  readonly name?: string;
  /** Beside the master. */
  readonly replicas?: number;
}

class Server implements FarmNode {
  readonly port: number;
  readonly name: string;
  pid = 0;
  readonly #endpoint: RedisEndpoint;
  readonly #dir: string;
  readonly #command: readonly string[];
  #child: ChildProcess | undefined;

  constructor(endpoint: RedisEndpoint, dir: string, command: readonly string[]) {
    this.#endpoint = endpoint;
    this.#dir = dir;
    this.#command = command;
    this.port = endpoint.port;
    this.name = `${endpoint.host}:${endpoint.port}`;
  }

  running(): boolean {
    return this.#child !== undefined;
  }

  async start(): Promise<void> {
    const log = openSync(join(this.#dir, 'output.log'), 'a');
    const [program = '', ...args] = this.#command;
    const child = spawn(program, args, { cwd: this.#dir, stdio: ['ignore', log, log] });
    closeSync(log);
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    child.once('exit', () => {
      process.off('exit', end);
      if (this.#child === child) this.#child = undefined;
    });
    this.#child = child;
    this.pid = child.pid ?? 0;
    await eventually(`${program} on port ${this.port}`, () => this.#answers(), UP_MS_MAX);
  }

  async #answers(): Promise<boolean> {
    if (this.#child === undefined) {
      throw new Error(`it ended while it started: ${readFileSync(join(this.#dir, 'output.log'), 'utf8')}`);
    }
    return this.ask('PING').then(
      (reply) => reply === 'PONG',
      () => false,
    );
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    // A stopped process has to be woken to die of anything but SIGKILL.
    child.kill('SIGCONT');
    await ended;
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal);
  }

  async ask(...parts: CommandPart[]): Promise<Reply> {
    const endpoint = this.#endpoint;
    const options = { endpoint, timeoutMs: ASK_MS_MAX, logger: silent, renewed: false };
    const connection = new LeanConnection(options);
    try {
      await connection.connect();
      return await connection.command(parts);
    } finally {
      connection.close();
    }
  }
}

interface Site {
  readonly dir: string;
  readonly options: FarmOptions;
  /** Arguments of every server, and the settings that fit them. */
  readonly tlsArgs: readonly string[];
  readonly changes: Partial<Settings['redis']>;
  /** In front of the hosts of the URL. */
  readonly credentials: string;
  readonly scheme: string;
}

function prepare(options: FarmOptions): Site {
  const dir = makeTempDir();
  const { password, tls = false } = options;
  const credentials = password === undefined ? '' : `:${encodeURIComponent(password)}@`;
  const site = { dir, options, credentials, scheme: tls ? 'rediss' : 'redis' };
  if (!tls) return { ...site, tlsArgs: [], changes: {} };
  const files = makeCertificates(dir);
  const { ca, cert, key } = files;
  const tlsArgs = ['--tls-ca-cert-file', ca, '--tls-cert-file', cert, '--tls-key-file', key];
  const changes = { tlsCaFile: ca, tlsCertFile: cert, tlsKeyFile: key };
  return { ...site, tlsArgs, changes };
}

function endpointOf({ changes }: Site, port: number, password: string | undefined): RedisEndpoint {
  const { tlsCaFile, tlsCertFile, tlsKeyFile } = changes;
  const tls =
    tlsCaFile === undefined
      ? false
      : {
          ca: readFileSync(tlsCaFile),
          cert: readFileSync(tlsCertFile ?? ''),
          key: readFileSync(tlsKeyFile ?? ''),
        };
  return { host: HOST, port, db: 0, tls, ...(password === undefined ? {} : { password }) };
}

async function makeRedis(site: Site, name: string, args: readonly string[] = []): Promise<Server> {
  const { options, tlsArgs } = site;
  const dir = join(site.dir, name);
  mkdirSync(dir, { recursive: true });
  const port = await freePort();
  const listening =
    tlsArgs.length === 0
      ? ['--port', String(port)]
      : ['--port', '0', '--tls-port', String(port), '--tls-replication', 'yes', ...tlsArgs];
  const { password } = options;
  const guarded = password === undefined ? [] : ['--requirepass', password, '--masterauth', password];
  // Only processes die here: what they wrote is with the kernel then, and no busy disk holds anybody up.
  const files = ['--dir', dir, '--save', '', '--appendonly', 'yes', '--appendfsync', 'no'];
  const fixed = ['--bind', HOST, ...files];
  // A replica whose offset is still 0, which is so until the first ping, is told to nobody.
  const quick = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];
  const policy = ['--maxmemory-policy', 'noeviction'];
  const command = ['redis-server', ...listening, ...fixed, ...policy, ...quick, ...guarded, ...args];
  return new Server(endpointOf(site, port, password), dir, [...command, ...(options.args ?? [])]);
}

/** A master, replicas (two unless told otherwise) and three sentinels: about three seconds. */
export async function startSentinelTrio(options: SentinelOptions = {}): Promise<SentinelTrio> {
  const { name = 'mymaster', replicas = 2, sentinelPassword } = options;
  const site = prepare(options);
  const first = await makeRedis(site, 'r0');
  const nodes = [first];
  for (let i = 1; i <= replicas; i++) {
    nodes.push(await makeRedis(site, `r${i}`, ['--replicaof', `${HOST} ${first.port}`]));
  }
  const sentinels: Server[] = [];
  for (let i = 0; i < 3; i++)
    sentinels.push(await makeSentinel(site, `s${i}`, first.port, { ...options, name }));
  const changes = { ...site.changes, ...(sentinelPassword === undefined ? {} : { sentinelPassword }) };
  const places = sentinels.map((sentinel) => sentinel.name).join(',');
  const url = `${site.scheme}+sentinel://${site.credentials}${places}/${name}`;
  const stop = () => stopAll(site, [...sentinels, ...nodes]);

  const master = async () => {
    const words = sentinels
      .filter((sentinel) => sentinel.running())
      .map((sentinel) => sentinel.ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name).catch(() => undefined));
    const ports = (await Promise.all(words)).map((word) => (Array.isArray(word) ? Number(word[1]) : 0));
    const found = nodes.find(({ port }) => ports.filter((word) => word === port).length > 1);
    if (found === undefined) throw new Error(`the sentinels don't agree on a master: ${ports.join(', ')}`);
    return found;
  };
  const settled = async (sentinel: Server) => {
    const facts = await sentinel.ask('SENTINEL', 'MASTER', name);
    if (!Array.isArray(facts)) return false;
    const fact = (of: string) => facts[facts.indexOf(of) + 1];
    return fact('num-slaves') === String(replicas) && fact('num-other-sentinels') === '2';
  };
  try {
    await Promise.all(nodes.map((node) => node.start()));
    await follow(nodes.slice(1));
    await Promise.all(sentinels.map((sentinel) => sentinel.start()));
    for (const sentinel of sentinels) {
      await eventually('the sentinels', sooner(() => settled(sentinel)), UP_MS_MAX);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ...{ url, changes, nodes, sentinels, master, stop },
    settings: (more = {}) => redisSettings(url, { ...changes, ...more }),
    async failover() {
      const before = await eventually('a master', sooner(master), UP_MS_MAX);
      const begun = async () => (await sentinels[0]?.ask('SENTINEL', 'FAILOVER', name)) === 'OK';
      await eventually('a failover', sooner(begun), FAILOVER_MS_MAX);
      const moved = async () => (await master()) !== before;
      await eventually('another master', sooner(moved), FAILOVER_MS_MAX);
    },
  };
}

async function makeSentinel(
  site: Site,
  folder: string,
  masterPort: number,
  { name = '', sentinelPassword, password, downAfterMs = DOWN_AFTER_MS }: SentinelOptions,
): Promise<Server> {
  const dir = join(site.dir, folder);
  mkdirSync(dir, { recursive: true });
  const port = await freePort();
  const secured = site.tlsArgs.length > 0;
  const tlsLines: string[] = [];
  for (let i = 0; i < site.tlsArgs.length; i += 2) {
    tlsLines.push(`${site.tlsArgs[i]?.slice(2)} ${site.tlsArgs[i + 1]}`);
  }
  const config = join(dir, 'sentinel.conf');
  const lines = [
    ...(secured ? ['port 0', `tls-port ${port}`, 'tls-replication yes', ...tlsLines] : [`port ${port}`]),
    `bind ${HOST}`,
    `dir ${dir}`,
    `sentinel monitor ${name} ${HOST} ${masterPort} 2`,
    `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
    `sentinel failover-timeout ${name} 5000`,
    `sentinel parallel-syncs ${name} 2`,
    ...(password === undefined ? [] : [`sentinel auth-pass ${name} ${password}`]),
    ...(sentinelPassword === undefined
      ? []
      : [`requirepass ${sentinelPassword}`, `sentinel sentinel-pass ${sentinelPassword}`]),
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  const command = ['redis-server', config, '--sentinel'];
  return new Server(endpointOf(site, port, sentinelPassword), dir, command);
}

/** Three masters with a replica each: about three seconds. */
export async function startRedisCluster(options: FarmOptions = {}): Promise<RedisCluster> {
  const site = prepare(options);
  const nodes: Server[] = [];
  const busPorts: number[] = [];
  for (let i = 0; i < 6; i++) {
    const busPort = await freePort();
    busPorts.push(busPort);
    const timing = ['--cluster-node-timeout', String(options.downAfterMs ?? DOWN_AFTER_MS)];
    const trust = ['--cluster-replica-validity-factor', '0'];
    const secured = site.tlsArgs.length > 0 ? ['--tls-cluster', 'yes'] : [];
    const clustered = ['--cluster-enabled', 'yes', '--cluster-port', String(busPort), ...timing, ...trust];
    nodes.push(await makeRedis(site, `n${i}`, [...clustered, ...secured]));
  }
  const url = `${site.scheme}+cluster://${site.credentials}${nodes.map(({ name }) => name).join(',')}`;
  const { changes } = site;
  const stop = () => stopAll(site, nodes);
  const ranges = async () => {
    for (const node of nodes.filter((one) => one.running())) {
      const info = await node.ask('CLUSTER', 'INFO').catch(() => '');
      if (!String(info).includes('cluster_state:ok')) continue;
      return readSlots(await node.ask('CLUSTER', 'SLOTS'), { host: HOST, port: node.port });
    }
    throw new Error('no node calls the cluster sound');
  };
  const nodeAt = (port: number | undefined) => nodes.find((node) => node.port === port) as Server;
  try {
    await Promise.all(nodes.map((node) => node.start()));
    await joinCluster(nodes, busPorts);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ...{ url, changes, nodes, stop },
    settings: (more = {}) => redisSettings(url, { ...changes, ...more }),
    async master(key = '{s0}:') {
      const slot = slotOf(key);
      const range = (await ranges()).find(({ first, last }) => first <= slot && slot <= last);
      return nodeAt(range?.master.port);
    },
    async masters() {
      return [...new Set((await ranges()).map(({ master }) => nodeAt(master.port)))];
    },
  };
}

async function joinCluster(nodes: readonly Server[], busPorts: readonly number[]): Promise<void> {
  const masters = nodes.slice(0, 3);
  for (const [i, node] of nodes.entries()) await node.ask('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
  for (const [i, node] of masters.entries()) {
    const first = Math.ceil((SLOTS * i) / 3);
    await node.ask('CLUSTER', 'ADDSLOTSRANGE', first, Math.ceil((SLOTS * (i + 1)) / 3) - 1);
  }
  for (const [i, node] of nodes.entries()) {
    if (i > 0) await nodes[0]?.ask('CLUSTER', 'MEET', HOST, node.port, busPorts[i] ?? 0);
  }
  const sound = async (node: Server) => {
    const info = String(await node.ask('CLUSTER', 'INFO'));
    return info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:6');
  };
  for (const node of nodes) await eventually('the nodes know each other', sooner(() => sound(node)), UP_MS_MAX);
  for (const [i, replica] of nodes.slice(3).entries()) {
    await replica.ask('CLUSTER', 'REPLICATE', String(await masters[i]?.ask('CLUSTER', 'MYID')));
  }
  await follow(nodes.slice(3));
  // A replica that the others don't know as one yet could not be elected.
  const known = async (node: Server) => {
    const slots = await node.ask('CLUSTER', 'SLOTS');
    return readSlots(slots, { host: HOST, port: 0 }).every(({ replicas }) => replicas.length === 1);
  };
  for (const node of nodes) await eventually('everybody knows the replicas', sooner(() => known(node)), UP_MS_MAX);
}

async function follow(replicas: readonly Server[]): Promise<void> {
  for (const replica of replicas) {
    const linked = async () =>
      String(await replica.ask('INFO', 'replication')).includes('master_link_status:up');
    await eventually('a replica follows', sooner(linked), UP_MS_MAX);
  }
}

/** Who doesn't answer in time is asked again. */
function sooner<T>(check: () => Promise<T>): () => Promise<T | undefined> {
  return () => check().catch(() => undefined);
}

async function stopAll({ dir }: Site, servers: readonly Server[]): Promise<void> {
  await Promise.all(servers.map((server) => server.kill()));
  removeTempDir(dir);
}
