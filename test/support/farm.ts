/**
 * ClickHouse 18.16 and ZooKeeper as Debian packs them, as a cluster on loopback: replication, ON CLUSTER and
 * quorum, which the embedded server has not. An old engine: no Map, DateTime64, TTL, CODEC, ADD COLUMN IF NOT
 * EXISTS or deduplication tokens, so tests on it use a small schema of old types.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { eventually, freePort, makeTempDir, removeTempDir } from './services.ts';

const SERVER = '/usr/sbin/clickhouse-server';
const UP_MS_MAX = 60_000;
const FOUR_LETTERS_MS_MAX = 500;

/** A replica as a cluster's definition names it. */
export interface Member {
  readonly host: string;
  readonly port: number;
}

export interface FarmOptions {
  readonly shards?: number;
  readonly replicas?: number;
  /** The cluster's name in system.clusters. */
  readonly name?: string;
  /** Further elements inside `<users>` of every host. */
  readonly usersXml?: string;
}

export interface FarmHost {
  /** From 1, as in system.clusters. */
  readonly shard: number;
  readonly replica: number;
  readonly httpPort: number;
  readonly tcpPort: number;
  readonly url: string;
  /** `host:port` of the HTTP port: the name in messages, labels and reports. */
  readonly name: string;
  /** May be changed before `start` or `believe`: what the host believes about the cluster and itself. */
  readonly beliefs: Beliefs;
  running(): boolean;
  start(): Promise<void>;
  /** Writes the beliefs for a host that runs: it takes the cluster's definition over within seconds. */
  believe(): void;
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Removes its data; it has to be stopped. ZooKeeper still knows it. */
  wipe(): void;
  query(sql: string, params?: Readonly<Record<string, string>>): Promise<string>;
  rows<Row = Record<string, unknown>>(sql: string): Promise<Row[]>;
}

export interface Beliefs {
  /** The cluster's definition: shards of replicas. */
  shards: Member[][];
  macros: Record<string, string>;
  internalReplication: boolean;
  weights: number[];
}

export interface Farm {
  readonly name: string;
  /** Shard by shard. */
  readonly hosts: readonly FarmHost[];
  /** Comma-separated, for SLUICE_CLICKHOUSE_URL. */
  readonly urls: string;
  host(shard: number, replica: number): FarmHost;
  /** A new host that no definition names yet; not started. */
  addHost(shard: number, replica: number): Promise<FarmHost>;
  stopZooKeeper(): Promise<void>;
  startZooKeeper(): Promise<void>;
  stop(): Promise<void>;
}

class Service {
  child: ChildProcess | undefined;

  start(command: string, args: readonly string[], dir: string, environment: NodeJS.ProcessEnv = {}): void {
    const log = openSync(join(dir, 'output.log'), 'a');
    const child = spawn(command, args, {
      cwd: dir,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...environment },
    });
    closeSync(log);
    child.once('exit', () => {
      if (this.child === child) this.child = undefined;
    });
    this.child = child;
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }
}

/** Starts ZooKeeper and all hosts: about two seconds. */
export async function startFarm(options: FarmOptions = {}): Promise<Farm> {
  const { shards = 2, replicas = 2, name = 'events' } = options;
  const dir = makeTempDir();
  const zooKeeperPort = await freePort();
  const zooKeeper = new Service();
  const hosts: FarmHost[] = [];

  const startZooKeeper = async () => {
    const home = join(dir, 'zookeeper');
    mkdirSync(join(home, 'data'), { recursive: true });
    writeFileSync(join(home, 'zoo.cfg'), zooKeeperConfig(join(home, 'data'), zooKeeperPort));
    const classes = '/etc/zookeeper/conf_example:/usr/share/java/*';
    const main = 'org.apache.zookeeper.server.quorum.QuorumPeerMain';
    const frugal = ['-Xmx128m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
    zooKeeper.start('java', [...frugal, '-cp', classes, main, join(home, 'zoo.cfg')], home);
    await eventually('ZooKeeper', async () => (await fourLetters(zooKeeperPort, 'ruok')) === 'imok', UP_MS_MAX);
  };
  const makeHost = async (shard: number, replica: number): Promise<FarmHost> => {
    const home = join(dir, `s${shard}r${replica}-${hosts.length}`);
    const ports = { http: await freePort(), tcp: await freePort(), interserver: await freePort() };
    const macros = { shard: `0${shard}`, replica: `r${replica}` };
    const beliefs: Beliefs = { shards: [], macros, internalReplication: true, weights: [] };
    return farmHost({ home, shard, replica, ports, beliefs, zooKeeperPort, name, usersXml: options.usersXml ?? '' });
  };

  for (let shard = 1; shard <= shards; shard++) {
    for (let replica = 1; replica <= replicas; replica++) hosts.push(await makeHost(shard, replica));
  }
  const members = (shard: number) =>
    hosts.filter((host) => host.shard === shard).map(({ tcpPort }) => ({ host: '127.0.0.1', port: tcpPort }));
  const definition = Array.from({ length: shards }, (_, index) => members(index + 1));
  for (const { beliefs } of hosts) beliefs.shards = definition.map((shard) => [...shard]);

  const stop = async () => {
    await Promise.all(hosts.map((host) => host.stop('SIGKILL')));
    await zooKeeper.stop('SIGKILL');
    removeTempDir(dir);
  };
  try {
    await startZooKeeper();
    await Promise.all(hosts.map((host) => host.start()));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    name,
    hosts,
    urls: hosts.map(({ url }) => url).join(','),
    host(shard, replica) {
      const found = hosts.find((host) => host.shard === shard && host.replica === replica);
      if (found === undefined) throw new Error(`the farm has no replica ${replica} of shard ${shard}`);
      return found;
    },
    async addHost(shard, replica) {
      const host = await makeHost(shard, replica);
      hosts.push(host);
      return host;
    },
    stopZooKeeper: () => zooKeeper.stop('SIGKILL'),
    startZooKeeper,
    stop,
  };
}

/** One farm for all tests of the file or `describe` that calls this; use it inside of tests only. */
export function useFarm(options: FarmOptions = {}): Farm {
  let running: Farm | undefined;
  beforeAll(async () => {
    running = await startFarm(options);
  });
  afterAll(async () => {
    await running?.stop();
  });
  return new Proxy({} as Farm, {
    get: (_, name) => {
      if (running === undefined) throw new Error('the farm runs only while the tests do: use it inside of a test');
      return Reflect.get(running, name);
    },
  });
}

interface HostFacts {
  readonly home: string;
  readonly shard: number;
  readonly replica: number;
  readonly ports: { readonly http: number; readonly tcp: number; readonly interserver: number };
  readonly beliefs: Beliefs;
  readonly zooKeeperPort: number;
  readonly name: string;
  readonly usersXml: string;
}

function farmHost(facts: HostFacts): FarmHost {
  const { home, shard, replica, ports, beliefs } = facts;
  const service = new Service();
  const url = `http://127.0.0.1:${ports.http}`;
  const query = async (sql: string, params: Readonly<Record<string, string>> = {}) => {
    const answer = await fetch(`${url}/?${new URLSearchParams(params)}`, { method: 'POST', body: sql });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${text.trim()}\nquery: ${sql}`);
    return text;
  };
  return {
    shard,
    replica,
    httpPort: ports.http,
    tcpPort: ports.tcp,
    url,
    name: `127.0.0.1:${ports.http}`,
    beliefs,
    running: () => service.child !== undefined,
    async start() {
      for (const folder of ['data', 'tmp', 'format', 'files']) mkdirSync(join(home, folder), { recursive: true });
      writeFileSync(join(home, 'config.xml'), hostConfig(facts));
      writeFileSync(join(home, 'users.xml'), hostUsers(facts.usersXml));
      service.start(SERVER, ['--config-file', join(home, 'config.xml')], home);
      await eventually(
        `ClickHouse 18.16 at ${url}`,
        async () => {
          if (service.child === undefined) throw new Error(`it ended while it started: see ${home}`);
          return (await query('SELECT 1').catch(() => '')).trim() === '1';
        },
        UP_MS_MAX,
      );
    },
    believe: () => writeFileSync(join(home, 'config.xml'), hostConfig(facts)),
    stop: (signal = 'SIGTERM') => service.stop(signal),
    wipe: () => rmSync(join(home, 'data'), { recursive: true, force: true }),
    query,
    async rows<Row>(sql: string) {
      const lines = (await query(`${sql} FORMAT JSONEachRow`)).trim();
      return JSON.parse(`[${lines.replaceAll('\n', ',')}]`) as Row[];
    },
  };
}

function zooKeeperConfig(dataDir: string, port: number): string {
  return `tickTime=500
initLimit=10
syncLimit=5
dataDir=${dataDir}
clientPortAddress=127.0.0.1
clientPort=${port}
admin.enableServer=false
4lw.commands.whitelist=ruok,srvr
maxClientCnxns=200
`;
}

function hostConfig({ home, ports, beliefs, zooKeeperPort, name }: HostFacts): string {
  const shards = beliefs.shards.map((members, index) => {
    const replicas = members.map(
      ({ host, port }) => `<replica><host>${host}</host><port>${port}</port></replica>`,
    );
    const weight = beliefs.weights[index] === undefined ? '' : `<weight>${beliefs.weights[index]}</weight>`;
    const replication = `<internal_replication>${beliefs.internalReplication}</internal_replication>`;
    return `<shard>${weight}${replication}${replicas.join('')}</shard>`;
  });
  const macros = Object.entries(beliefs.macros).map(([key, value]) => `<${key}>${value}</${key}>`);
  return `<yandex>
<logger><level>information</level><log>${home}/server.log</log><errorlog>${home}/error.log</errorlog></logger>
<listen_host>127.0.0.1</listen_host>
<http_port>${ports.http}</http_port><tcp_port>${ports.tcp}</tcp_port>
<interserver_http_port>${ports.interserver}</interserver_http_port>
<interserver_http_host>127.0.0.1</interserver_http_host>
<path>${home}/data/</path><tmp_path>${home}/tmp/</tmp_path>
<format_schema_path>${home}/format/</format_schema_path><user_files_path>${home}/files/</user_files_path>
<users_config>${home}/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database>
<mark_cache_size>67108864</mark_cache_size><uncompressed_cache_size>0</uncompressed_cache_size>
<max_concurrent_queries>100</max_concurrent_queries><keep_alive_timeout>3</keep_alive_timeout>
<timezone>UTC</timezone>
<remote_servers><${name}>${shards.join('')}</${name}></remote_servers>
<zookeeper>
<node><host>127.0.0.1</host><port>${zooKeeperPort}</port></node><session_timeout_ms>4000</session_timeout_ms>
</zookeeper>
<macros>${macros.join('')}</macros>
<distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>
</yandex>`;
}

function hostUsers(further: string): string {
  const limits = '<max_memory_usage>2000000000</max_memory_usage><log_queries>0</log_queries>';
  const free = ['queries', 'errors', 'result_rows', 'read_rows', 'execution_time'].map((what) => `<${what}>0</${what}>`);
  return `<yandex>
<profiles>
<default>${limits}<background_pool_size>2</background_pool_size></default>
<readonly><readonly>2</readonly></readonly>
</profiles>
<users>
<default><password></password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota></default>${further}
</users>
<quotas><default><interval><duration>3600</duration>${free.join('')}</interval></default></quotas>
</yandex>`;
}

/** The answer of ZooKeeper to one of its four-letter words; empty where nobody listens. */
function fourLetters(port: number, word: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(word));
    // While it starts it may take a connection and never answer on it.
    socket.setTimeout(FOUR_LETTERS_MS_MAX, () => socket.destroy());
    socket.on('data', (data) => {
      answer += data.toString();
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', () => resolve(''));
  });
}
