/**
 * The servers that a writer talks to: one client each, made when first needed, and what each server is and
 * knows.
 */
import { nowMs } from '../base/clock.ts';
import { Fault, type Retry } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type ClickHouse, type ServerInfo, close, probe } from '../clickhouse/client.ts';
import { lackingForExactlyOnce } from '../clickhouse/insert-settings.ts';
import type { Replica } from '../topology/topology.ts';
import type { Target } from './inserter.ts';

/** A server may be upgraded without an insert failing: what it knows is asked for again from time to time. */
const PROBE_AGE_MS_MAX = 60_000;

interface Entry {
  readonly server: ClickHouse;
  probed: { readonly atMs: number; readonly info: Promise<ServerInfo> } | undefined;
  version: string;
}

export class Servers {
  readonly #connect: (replica: Replica) => ClickHouse;
  readonly #logger: Logger;
  /** By host. */
  readonly #entries = new Map<string, Entry>();

  /** @param connect makes a client for a replica; it is closed by `close` */
  constructor(connect: (replica: Replica) => ClickHouse, logger: Logger) {
    this.#connect = connect;
    this.#logger = logger;
  }

  /** A replica, ready for an insert. Inserts that start together share one probe. @throws its Fault */
  async of(replica: Replica): Promise<Target> {
    const entry = this.#entry(replica);
    if (entry.probed === undefined || nowMs() - entry.probed.atMs > PROBE_AGE_MS_MAX) {
      entry.probed = { atMs: nowMs(), info: probe(entry.server) };
    }
    try {
      const info = await entry.probed.info;
      this.#note(entry, info);
      return { server: entry.server, info };
    } catch (error) {
      entry.probed = undefined;
      // Whatever a server says before it has seen a batch is no reason to give a batch up.
      if (!(error instanceof Fault)) throw error;
      throw new Fault(error.code, later(error.retry), error.message, { cause: error });
    }
  }

  /** After a failed insert: the next one asks again what this server is. It may be another by then. */
  doubt(replica: Replica): void {
    this.#entry(replica).probed = undefined;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#entries.values()].map((entry) => close(entry.server)));
    this.#entries.clear();
  }

  #entry(replica: Replica): Entry {
    let entry = this.#entries.get(replica.host);
    if (entry === undefined) {
      entry = { server: this.#connect(replica), probed: undefined, version: '' };
      this.#entries.set(replica.host, entry);
    }
    return entry;
  }

  /** One line for each version that is met. */
  #note(entry: Entry, info: ServerInfo): void {
    const version = `${info.version.major}.${info.version.minor}.${info.version.patch}`;
    if (entry.version === version) return;
    entry.version = version;
    const about = { host: entry.server.host, version, timezone: info.timezone };
    const lacking = lackingForExactlyOnce(info);
    if (lacking.length === 0) this.#logger.info(about, 'ClickHouse found');
    else this.#logger.warn({ ...about, lacking }, 'this ClickHouse may store a retried insert twice');
  }
}

function later(retry: Retry): Retry {
  return retry === 'never' ? 'here' : retry;
}
