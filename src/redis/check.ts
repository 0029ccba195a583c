/**
 * What kind of Redis this is, and whether it can keep what is acknowledged. Findings are data: `app` logs or
 * refuses.
 */
import { Fault } from '../base/errors.ts';
import type { RedisSettings } from './access.ts';
import type { LeanConnection } from './lean.ts';
import type { Reply } from './replies.ts';
import { parseRedisUrl, showAddress } from './url.ts';

/** Of one master. */
export interface RedisFacts {
  /** `host:port` */
  readonly node: string;
  readonly version: string;
  /** `master` or `slave`, in Redis' own words. */
  readonly role: string;
  /** 0: no bound of its own. */
  readonly maxmemoryBytes: number;
  readonly usedMemoryBytes: number;
  /** `undefined` where the operator hides CONFIG, as managed services do. */
  readonly maxmemoryPolicy: string | undefined;
  readonly appendonly: boolean;
  readonly appendfsync: string | undefined;
  /** That follow it right now. */
  readonly replicas: number;
  /** `undefined` where it is no node of a cluster. */
  readonly clusterState: string | undefined;
}

export interface RedisFinding {
  /**
   * `refuse`: an acknowledgement would not mean what the configuration says. `wait`: the same, but it may
   * pass without anybody mending it.
   */
  readonly level: 'refuse' | 'wait' | 'warn';
  /** A sentence with the setting, its value and what is wanted. */
  readonly message: string;
}

/** Asks a Redis what it is. Rejects with a Fault when it can't be reached. */
export async function inspectRedis(
  connection: Pick<LeanConnection, 'command' | 'endpoint'>,
): Promise<RedisFacts> {
  const { endpoint } = connection;
  const info = fieldsOf(await connection.command(['INFO']));
  const inCluster = info.get('cluster_enabled') === '1';
  const cluster = inCluster ? fieldsOf(await connection.command(['CLUSTER', 'INFO'])) : undefined;
  const replicas = [...info].filter(([name, value]) => /^slave\d+$/.test(name) && /state=online/.test(value));
  return {
    node: endpoint === undefined ? '' : showAddress(endpoint),
    version: info.get('redis_version') ?? 'unknown',
    role: info.get('role') ?? 'unknown',
    maxmemoryBytes: Number(info.get('maxmemory') ?? 0),
    usedMemoryBytes: Number(info.get('used_memory') ?? 0),
    maxmemoryPolicy: info.get('maxmemory_policy'),
    appendonly: info.get('aof_enabled') === '1',
    appendfsync: await configured(connection, 'appendfsync'),
    replicas: replicas.length,
    clusterState: cluster && (cluster.get('cluster_state') ?? 'unknown'),
  };
}

/** Of the lines `name:value` of INFO and CLUSTER INFO. */
function fieldsOf(reply: Reply): Map<string, string> {
  const lines = String(reply).split('\r\n');
  return new Map(
    lines
      .filter((line) => line.includes(':'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)] as const),
  );
}

async function configured(
  connection: Pick<LeanConnection, 'command'>,
  name: string,
): Promise<string | undefined> {
  try {
    const reply: Reply = await connection.command(['CONFIG', 'GET', name]);
    return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : undefined;
  } catch (error) {
    // Renamed or forbidden: unknown is a state of its own, not a failure.
    if (error instanceof Fault && error.retry === 'never') return undefined;
    throw error;
  }
}

/** What the judgement depends on, of the settings. */
export type Promised = Pick<RedisSettings, 'url' | 'durability' | 'replicas' | 'whenReplicasMissing'>;

/**
 * Judges all masters against what the settings promise; where there are several, a finding says which one.
 * Pure.
 */
export function judgeRedis(masters: readonly RedisFacts[], promised: Promised): RedisFinding[] {
  return masters.flatMap((facts) => {
    const findings = [...judgeKind(facts, promised), ...judgeMemory(facts), ...judgeKeeping(facts, promised)];
    if (masters.length === 1) return findings;
    return findings.map(({ level, message }) => ({ level, message: `${facts.node}: ${message}` }));
  });
}

function judgeKind({ version, role, clusterState }: RedisFacts, { url }: Promised): RedisFinding[] {
  const findings: RedisFinding[] = [];
  const major = Number.parseInt(version, 10);
  if (!(major >= 7)) {
    findings.push(warn(`Redis is version ${version}; Sluice is tested with 7.0 and newer`));
  }
  if (role === 'slave') {
    findings.push(refuse('Redis is a replica: nothing can be stored there. Wanted is its master'));
  }
  if (clusterState !== undefined && parseRedisUrl(url).kind !== 'cluster') {
    findings.push(
      refuse(
        'Redis is a node of a cluster, but SLUICE_REDIS_URL names a single server. ' +
          'Wanted is redis+cluster://, or rediss+cluster://',
      ),
    );
  } else if (clusterState !== undefined && clusterState !== 'ok') {
    findings.push(
      warn(
        `the state of the Redis cluster is ${clusterState}: it refuses commands until every slot has a ` +
          'master (redis-cli --cluster check)',
      ),
    );
  }
  return findings;
}

function judgeMemory({ maxmemoryPolicy, maxmemoryBytes, usedMemoryBytes }: RedisFacts): RedisFinding[] {
  const findings: RedisFinding[] = [];
  if (maxmemoryPolicy === undefined) {
    findings.push(warn("Redis' maxmemory-policy can't be read; it has to be noeviction"));
  } else if (maxmemoryPolicy !== 'noeviction') {
    findings.push(
      refuse(
        `Redis' maxmemory-policy is ${maxmemoryPolicy}: it may throw acknowledged data away. ` +
          'Wanted is noeviction (CONFIG SET maxmemory-policy noeviction)',
      ),
    );
  }
  if (maxmemoryBytes === 0) {
    findings.push(
      warn(
        "Redis' maxmemory is 0: it takes memory until the system ends it. Wanted is what the machine can " +
          'spare (CONFIG SET maxmemory 2gb)',
      ),
    );
  } else if (usedMemoryBytes >= maxmemoryBytes) {
    findings.push(
      warn(
        `Redis is full: it uses ${usedMemoryBytes} bytes, and its maxmemory is ${maxmemoryBytes}. Nothing ` +
          'is taken until writers have made room',
      ),
    );
  }
  return findings;
}

function judgeKeeping(facts: RedisFacts, promised: Promised): RedisFinding[] {
  const { durability } = promised;
  const findings: RedisFinding[] = [];
  if (!facts.appendonly) {
    // `everysec` is what one gets without asking; whoever asks for more must get it.
    const say = durability === 'everysec' ? warn : refuse;
    findings.push(
      say(
        `Redis' appendonly is no, but durability is ${durability}: what is acknowledged would not survive ` +
          'a restart of Redis. Wanted is yes (CONFIG SET appendonly yes)',
      ),
    );
  }
  if (durability === 'always' && facts.appendfsync !== 'always') {
    findings.push(
      refuse(
        `Redis' appendfsync is ${facts.appendfsync ?? 'unknown'}, but durability is always. ` +
          'Wanted is always (CONFIG SET appendfsync always)',
      ),
    );
  }
  if (durability !== 'always' && facts.appendfsync === 'no') {
    findings.push(
      warn(
        "Redis' appendfsync is no: a power cut may cost half a minute of acknowledged data. " +
          'Wanted is everysec',
      ),
    );
  }
  if (durability === 'replicated' && facts.replicas < promised.replicas) {
    const say = promised.whenReplicasMissing === 'refuse' ? wait : warn;
    findings.push(
      say(
        `Redis has ${facts.replicas} replicas that follow it, but durability is replicated with ` +
          `${promised.replicas} (SLUICE_REDIS_REPLICAS). Wanted are as many, or ` +
          'SLUICE_REDIS_WHEN_REPLICAS_MISSING=warn',
      ),
    );
  }
  return findings;
}

function refuse(message: string): RedisFinding {
  return { level: 'refuse', message };
}

function wait(message: string): RedisFinding {
  return { level: 'wait', message };
}

function warn(message: string): RedisFinding {
  return { level: 'warn', message };
}
