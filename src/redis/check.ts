/**
 * What kind of Redis this is, and whether it can keep what is acknowledged. Findings are data: `app` logs or
 * refuses.
 */
import { Fault } from '../base/errors.ts';
import type { Durability } from '../config/settings.ts';
import type { RedisCommands } from './client.ts';
import type { Reply } from './replies.ts';

export interface RedisFacts {
  readonly version: string;
  /** 0: no bound of its own. */
  readonly maxmemoryBytes: number;
  /** `undefined` where the operator hides CONFIG, as managed services do. */
  readonly maxmemoryPolicy: string | undefined;
  readonly appendonly: boolean;
  readonly appendfsync: string | undefined;
  readonly replicas: number;
}

export interface RedisFinding {
  /** `refuse`: an acknowledgement would not mean what the configuration says. */
  readonly level: 'refuse' | 'warn';
  /** A sentence with the setting, its value and what is wanted. */
  readonly message: string;
}

/** Asks Redis what it is. Rejects with a Fault when it can't be reached. */
export async function inspectRedis(connection: RedisCommands): Promise<RedisFacts> {
  const info = new Map(
    String(await connection.command(['INFO']))
      .split('\r\n')
      .filter((line) => line.includes(':'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)] as const),
  );
  return {
    version: info.get('redis_version') ?? 'unknown',
    maxmemoryBytes: Number(info.get('maxmemory') ?? 0),
    maxmemoryPolicy: info.get('maxmemory_policy'),
    appendonly: info.get('aof_enabled') === '1',
    appendfsync: await configured(connection, 'appendfsync'),
    replicas: Number(info.get('connected_slaves') ?? 0),
  };
}

async function configured(connection: RedisCommands, name: string): Promise<string | undefined> {
  try {
    const reply: Reply = await connection.command(['CONFIG', 'GET', name]);
    return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : undefined;
  } catch (error) {
    // Renamed or forbidden: unknown is a state of its own, not a failure.
    if (error instanceof Fault && error.retry === 'never') return undefined;
    throw error;
  }
}

/** Judges the facts against the durability that the configuration promises. Pure. */
export function judgeRedis(facts: RedisFacts, durability: Durability): RedisFinding[] {
  const findings: RedisFinding[] = [];
  const refuse = (message: string) => findings.push({ level: 'refuse', message });
  const warn = (message: string) => findings.push({ level: 'warn', message });
  const major = Number.parseInt(facts.version, 10);
  if (!(major >= 7)) warn(`Redis is version ${facts.version}; Sluice is tested with 7.0 and newer`);
  if (facts.maxmemoryPolicy === undefined) {
    warn("Redis' maxmemory-policy can't be read; it has to be noeviction");
  } else if (facts.maxmemoryPolicy !== 'noeviction') {
    refuse(
      `Redis' maxmemory-policy is ${facts.maxmemoryPolicy}: it may throw acknowledged data away. ` +
        'Wanted is noeviction (CONFIG SET maxmemory-policy noeviction)',
    );
  }
  if (!facts.appendonly) {
    // `everysec` is what one gets without asking; whoever asks for more must get it.
    const say = durability === 'everysec' ? warn : refuse;
    say(
      `Redis' appendonly is no, but durability is ${durability}: what is acknowledged would not survive a ` +
        'restart of Redis. Wanted is yes (CONFIG SET appendonly yes)',
    );
  }
  if (durability === 'always' && facts.appendfsync !== 'always') {
    refuse(
      `Redis' appendfsync is ${facts.appendfsync ?? 'unknown'}, but durability is always. ` +
        'Wanted is always (CONFIG SET appendfsync always)',
    );
  }
  if (durability !== 'always' && facts.appendfsync === 'no') {
    warn(
      "Redis' appendfsync is no: a power cut may cost half a minute of acknowledged data. Wanted is everysec",
    );
  }
  if (durability === 'replicated') {
    refuse('durability is replicated, which this version does not know yet. Wanted is everysec or always');
  }
  return findings;
}
