/**
 * The servers that a writer talks to: their clients, made when first needed, and what each server is and
 * knows. Questions have a client of their own, so that they never wait behind inserts for a connection.
 */
import { nowMs } from '../base/clock.ts';
import { Fault, type Retry, assert } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type ClickHouse, type ServerInfo, close, probe } from '../clickhouse/client.ts';
import { lackingForExactlyOnce } from '../clickhouse/insert-settings.ts';
import { askReplica } from '../topology/ask.ts';
import type { ReplicaFacts } from '../topology/health.ts';
import type { Replica, Topology } from '../topology/topology.ts';
import { awaitedPart } from './awaited.ts';
import type { Target } from './inserter.ts';

/** A server may be upgraded without an insert failing: what it knows is asked for again from time to time. */
const PROBE_AGE_MS_MAX = 60_000;
/** Of the client for questions. */
const CONNECTIONS_MAX = 2;

/** Makes a client for a URL, with a bound of its own on connections where one is given. */
export type Connect = (url: string, connectionsMax?: number) => ClickHouse;

interface Entry {
  /** The replica's name. */
  readonly host: string;
  readonly inserts: ClickHouse;
  readonly questions: ClickHouse;
  probed: { readonly atMs: number; readonly info: Promise<ServerInfo> } | undefined;
  version: string;
}

export class Servers {
  readonly #connect: Connect;
  readonly #logger: Logger;
  /** By URL. */
  readonly #entries = new Map<string, Entry>();

  /** @param connect makes the clients; they are closed by `keep` and `close` */
  constructor(connect: Connect, logger: Logger) {
    this.#connect = connect;
    this.#logger = logger;
  }

  /** A replica, ready for an insert. Inserts that start together share one probe. @throws its Fault */
  async of(replica: Replica): Promise<Pick<Target, 'server' | 'info'>> {
    const entry = this.#entry(replica);
    return { server: entry.inserts, info: await this.#info(entry) };
  }

  /** How a replica is. @throws Fault where it doesn't say */
  async ask(replica: Replica, database: string, tables: readonly string[]): Promise<ReplicaFacts> {
    const entry = this.#entry(replica);
    return askReplica(entry.questions, await this.#info(entry), database, tables);
  }

  /** A part that a replica hasn't got, although an insert still waits for it. @throws Fault */
  async awaits(replica: Replica, database: string): Promise<string | undefined> {
    const entry = this.#entry(replica);
    const info = await this.#info(entry);
    return about(() => awaitedPart(entry.questions, info, database));
  }

  /** After a failed insert: the next one asks again what this server is. It may be another by then. */
  doubt(replica: Replica): void {
    this.#entry(replica).probed = undefined;
  }

  /** Ends the clients of servers that left the topology, once nothing is under way there. */
  async keep({ shards }: Topology, isBusy: (host: string) => boolean): Promise<void> {
    const urls = new Set(shards.flatMap(({ replicas }) => replicas.map(({ url }) => url)));
    const gone = [...this.#entries].filter(([url, { host }]) => !urls.has(url) && !isBusy(host));
    for (const [url] of gone) this.#entries.delete(url);
    await Promise.all(gone.map(([, entry]) => disconnect(entry)));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#entries.values()].map(disconnect));
    this.#entries.clear();
  }

  async #info(entry: Entry): Promise<ServerInfo> {
    if (entry.probed === undefined || nowMs() - entry.probed.atMs > PROBE_AGE_MS_MAX) {
      entry.probed = { atMs: nowMs(), info: probe(entry.questions) };
    }
    const { probed } = entry;
    try {
      const info = await about(() => probed.info);
      this.#note(entry, info);
      return info;
    } catch (error) {
      entry.probed = undefined;
      throw error;
    }
  }

  #entry({ url, host }: Replica): Entry {
    assert(url, `${host} has no address, and is chosen for nothing`);
    let entry = this.#entries.get(url);
    if (entry === undefined) {
      const questions = this.#connect(url, CONNECTIONS_MAX);
      entry = { host, inserts: this.#connect(url), questions, probed: undefined, version: '' };
      this.#entries.set(url, entry);
    }
    return entry;
  }

  /** One line for each version that is met. */
  #note(entry: Entry, info: ServerInfo): void {
    const version = `${info.version.major}.${info.version.minor}.${info.version.patch}`;
    if (entry.version === version) return;
    entry.version = version;
    const about = { host: entry.host, version, timezone: info.timezone };
    const lacking = lackingForExactlyOnce(info);
    if (lacking.length === 0) this.#logger.info(about, 'ClickHouse found');
    else this.#logger.warn({ ...about, lacking }, 'this ClickHouse may store a retried insert twice');
  }
}

async function disconnect({ inserts, questions }: Entry): Promise<void> {
  await Promise.all([close(inserts), close(questions)]);
}

/** Whatever a server says to a question, not to a batch, is no reason to give a batch up. */
async function about<T>(question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw new Fault(error.code, later(error.retry), error.message, { cause: error });
  }
}

function later(retry: Retry): Retry {
  return retry === 'never' ? 'here' : retry;
}
