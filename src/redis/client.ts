/**
 * The Redis of the settings, whatever its topology: one server, the master that sentinels name, or the
 * masters of a cluster. Whoever uses it names the key that a command is about, and needn't know more.
 */
import type { Logger } from '../base/log.ts';
import { type RedisSettings, parseRedisUrl } from './connection.ts';
import { LeanConnection, type LeanOptions } from './lean.ts';
import type { Reply } from './replies.ts';
import type { CommandPart } from './resp.ts';

/** What a script or a short question needs. */
export interface RedisCommands {
  /**
   * Sends one command. Payloads (Uint8Array parts) are not copied: they must stay as they are until the
   * promise settles. Rejects with a Fault as `LeanConnection.command` does.
   * @param key one that the command is about: its slot decides which node of a cluster is asked
   */
  command(parts: readonly CommandPart[], key?: string): Promise<Reply>;
}

export interface RedisClientOptions {
  readonly redis: RedisSettings;
  readonly logger: Logger;
}

/** Reading connections that are kept for later: as many as a writer of a few shards uses at once. */
const IDLE_READERS_MAX = 32;

export class RedisClient implements RedisCommands {
  readonly #lean: LeanOptions;
  readonly #connection: LeanConnection;
  readonly #idleReaders: LeanConnection[] = [];
  #closed = false;

  constructor({ redis, logger }: RedisClientOptions) {
    this.#lean = { endpoint: parseRedisUrl(redis.url), timeoutMs: redis.timeoutMs, logger };
    this.#connection = new LeanConnection(this.#lean);
  }

  /** Whether commands can be sent now, to every node that keys may lie on. */
  get ready(): boolean {
    return this.#connection.ready;
  }

  /** Resolves when Redis answers; rejects with the Fault of the first try (it is tried on until `close`). */
  connect(): Promise<void> {
    return this.#connection.connect();
  }

  command(parts: readonly CommandPart[], _key?: string): Promise<Reply> {
    return this.#connection.command(parts);
  }

  /**
   * The same, and what `redis.durability` asks for beyond the answer: with `replicated`, that so many
   * replicas have all that was written before the answer.
   */
  durably(parts: readonly CommandPart[], key: string): Promise<Reply> {
    return this.command(parts, key);
  }

  /** A connection to the node of a key, for streams. The caller's until `giveReader`. @throws Fault */
  async takeReader(_key: string): Promise<LeanConnection> {
    const idle = this.#idleReaders.pop();
    if (idle?.ready) return idle;
    idle?.close();
    const reader = new LeanConnection(this.#lean);
    try {
      await reader.connect();
      return reader;
    } catch (error) {
      reader.close();
      throw error;
    }
  }

  giveReader(reader: LeanConnection): void {
    const keep = reader.ready && !this.#closed && this.#idleReaders.length < IDLE_READERS_MAX;
    if (keep) this.#idleReaders.push(reader);
    else reader.close();
  }

  /** Connections to all masters, to look at them one by one. */
  get masters(): readonly LeanConnection[] {
    return [this.#connection];
  }

  /** Ends all connections; what is under way rejects. */
  close(): void {
    this.#closed = true;
    this.#connection.close();
    for (const reader of this.#idleReaders.splice(0)) reader.close();
  }
}
