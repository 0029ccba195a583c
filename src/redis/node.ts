/**
 * One master: the connection for commands, and further ones for what would hold that one up (streams, WAIT).
 * These go to the very server that the first is connected to. When that breaks or moves elsewhere they are
 * thrown away: a server that is no master any more would still answer what it had, or lacked, back then.
 */
import type { Fault } from '../base/errors.ts';
import { unavailable } from './faults.ts';
import { LeanConnection, type LeanOptions } from './lean.ts';

/** Kept for later: as many as a writer of a few shards, or a gateway that waits for replicas, has in use. */
const IDLE_MAX = 32;

export class RedisNode {
  readonly connection: LeanConnection;
  readonly #options: LeanOptions;
  #idle: LeanConnection[] = [];
  /** Those that were taken while the connection was the same as now. */
  #taken = new Set<LeanConnection>();

  /** @param options of the connection; `onChange` is called after this node has taken note */
  constructor(options: LeanOptions) {
    this.#options = options;
    const onChange = () => {
      this.#forget();
      options.onChange?.();
    };
    this.connection = new LeanConnection({ ...options, onChange });
  }

  get ready(): boolean {
    return this.connection.ready;
  }

  /** As `LeanConnection.connect`. */
  connect(): Promise<void> {
    return this.connection.connect();
  }

  /** A connection of the caller's own until `give`. Rejects at once while the server is away. */
  async take(): Promise<LeanConnection> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.ready) {
        this.#taken.add(idle);
        return idle;
      }
    }
    const { endpoint } = this.connection;
    if (endpoint === undefined) throw this.#away();
    const connection = new LeanConnection({
      ...this.#options,
      endpoint,
      renewed: false,
      onChange: () => undefined,
      // What one of them hears holds for all.
      onDemoted: () => {
        if (this.connection.endpoint === endpoint) this.connection.giveUp();
      },
    });
    await connection.connect();
    if (this.connection.endpoint !== endpoint) {
      connection.close();
      throw this.#away();
    }
    this.#taken.add(connection);
    return connection;
  }

  give(connection: LeanConnection): void {
    const current = this.#taken.delete(connection);
    const keep = current && connection.ready && connection.idle && this.#idle.length < IDLE_MAX;
    if (keep) this.#idle.push(connection);
    else connection.close();
  }

  /** Ends all connections but those that are taken, which end when they are given back. */
  close(): void {
    this.#forget();
    this.connection.close();
  }

  #forget(): void {
    for (const idle of this.#idle) idle.close();
    this.#idle = [];
    this.#taken = new Set();
  }

  #away(): Fault {
    return this.connection.refusal() ?? unavailable('the connection to Redis has just changed');
  }
}
