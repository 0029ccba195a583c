/**
 * `redis.durability: replicated`: a command counts only when so many replicas have what it wrote.
 *
 * WAIT speaks of what was written on its own connection, and holds up everything behind it there. So both go
 * over a connection that is theirs for that long, one right behind the other.
 */
import { tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { RedisSettings } from './access.ts';
import type { RedisNode } from './node.ts';
import type { Reply } from './replies.ts';
import type { CommandPart } from './resp.ts';

export interface ReplicaWaitOptions {
  readonly redis: Pick<RedisSettings, 'replicas' | 'replicaWaitMs' | 'whenReplicasMissing'>;
  readonly logger: Logger;
  readonly instruments?: Pick<Instruments, 'replicasMissing'> | undefined;
}

const SAY_EVERY_MS = 10_000;

export class ReplicaWait {
  readonly #options: ReplicaWaitOptions;
  #saidMs = Number.NEGATIVE_INFINITY;

  constructor(options: ReplicaWaitOptions) {
    this.#options = options;
  }

  /**
   * Sends the command and resolves with its answer once the replicas have what it wrote.
   * @throws Fault of the command; `replicas_missing` (here) when too few have it in time and that is to be
   *   refused: it is on the master then, and a repetition finds it there; `redis_unavailable` when the
   *   connection broke before the replicas were counted
   */
  async send(node: RedisNode, parts: readonly CommandPart[]): Promise<Reply> {
    const { replicas, replicaWaitMs } = this.#options.redis;
    const connection = await node.take();
    try {
      const [answer, waited] = await Promise.allSettled([
        connection.command(parts),
        connection.command(['WAIT', replicas, replicaWaitMs], undefined, replicaWaitMs),
      ]);
      if (answer.status === 'rejected') throw answer.reason;
      if (waited.status === 'rejected') throw waited.reason;
      const have = Number(waited.value);
      if (have < replicas) this.#missing(have);
      return answer.value;
    } finally {
      node.give(connection);
    }
  }

  #missing(have: number): void {
    const { redis, logger, instruments } = this.#options;
    const refused = redis.whenReplicasMissing === 'refuse';
    instruments?.replicasMissing.inc({ outcome: refused ? 'refused' : 'warned' });
    const message =
      `${have} of ${redis.replicas} replicas had it after ${redis.replicaWaitMs} ms ` +
      '(SLUICE_REDIS_REPLICAS, SLUICE_REDIS_REPLICA_WAIT_MS)';
    if (tickMs() - this.#saidMs > SAY_EVERY_MS) {
      const what = refused ? 'refused for now' : 'acknowledged all the same';
      logger.warn({ reason: message }, `replicas of Redis are missing: ${what}`);
      this.#saidMs = tickMs();
    }
    if (!refused) return;
    const how = 'SLUICE_REDIS_WHEN_REPLICAS_MISSING=warn would acknowledge it all the same';
    throw new Fault('replicas_missing', 'here', `${message}; ${how}`);
  }
}
