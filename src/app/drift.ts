/**
 * Compares the real tables with the declared ones while a writer runs, so that what somebody changes by hand
 * is known before it hurts. In: what was last seen of the cluster, and the migrations. Out: `schema_drift`
 * for each host, and a line in the log when drift begins and when it ends. It only looks, over connections of
 * its own, and nothing waits for it. What can't be found out is unknown, not zero: the host has no figure.
 */
import { sleep } from '../base/clock.ts';
import { ConfigurationError, Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type ClickHouse, close, createClickHouse, query } from '../clickhouse/client.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { fromSettings } from '../migrate/context.ts';
import { type HostVerification, driftOf, verificationLines } from '../migrate/difference.ts';
import { hostsOf } from '../migrate/hosts.ts';
import { quote } from '../migrate/sql.ts';
import { verifyHosts } from '../migrate/verify.ts';
import type { Discovery } from '../topology/discover.ts';

const EVERY_MS = 300_000;
/** The start has other things to do, and the tables are often just being migrated. */
const FIRST_MS = 20_000;
/** Of a host's differences, in the log. */
const LINES_MAX = 10;
/** A few small queries per host: nobody is in a hurry. */
const CONNECTIONS_MAX = 2;
/** The user may not look. */
const DENIED = ['ACCESS_DENIED', 'DATABASE_ACCESS_DENIED'];

export interface DriftWatchOptions {
  readonly settings: Settings;
  /** What was last seen of ClickHouse; costs nothing. */
  readonly look: () => Discovery | undefined;
  readonly instruments: Pick<Instruments, 'schemaDrift'>;
  readonly logger: Logger;
  /** Between two looks, about: writers that were started together drift apart. */
  readonly everyMs?: number;
}

export class DriftWatch {
  readonly #options: DriftWatchOptions;
  readonly #ending = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  /** Hosts that have a figure. */
  #shown = new Set<string>();
  /** Hosts whose drift was logged and isn't over, as far as is known. */
  readonly #drifting = new Set<string>();
  /** Why nothing can be known, as it was logged. */
  #blind = '';

  constructor(options: DriftWatchOptions) {
    this.#options = options;
  }

  start(): void {
    this.#ended = this.#run();
  }

  /** Resolves when nothing is asked any more; a look under way is broken off. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { everyMs = EVERY_MS } = this.#options;
    const { signal } = this.#ending;
    const jittered = (ms: number) => ms * (0.9 + Math.random() / 5);
    await sleep(jittered(Math.min(FIRST_MS, everyMs)), signal);
    while (!signal.aborted) {
      await this.#round();
      await sleep(jittered(everyMs), signal);
    }
  }

  /** Never rejects: whatever is wrong with the tables, or with this look at them, inserts go on. */
  async #round(): Promise<void> {
    const { settings, look, logger } = this.#options;
    const discovery = look();
    if (discovery?.topology === undefined) {
      this.#show([]);
      return;
    }
    const opened: ClickHouse[] = [];
    const open = (url: string) => {
      const server = createClickHouse(url, settings.clickhouse, logger, CONNECTIONS_MAX);
      opened.push(server);
      return server;
    };
    const closeAll = () => Promise.all(opened.map((server) => close(server)));
    const { signal } = this.#ending;
    signal.addEventListener('abort', closeAll, { once: true });
    try {
      this.#take(await this.#verify(discovery, open));
    } catch (error) {
      if (!signal.aborted) this.#failed(error);
    } finally {
      signal.removeEventListener('abort', closeAll);
      await closeAll();
    }
  }

  /** The hosts that answer; the others are no drift, the topology has told of them. */
  async #verify(discovery: Discovery, open: (url: string) => ClickHouse): Promise<HostVerification[]> {
    const { settings, logger } = this.#options;
    const { hosts, layout } = hostsOf(discovery, open, settings);
    await Promise.all(hosts.map(({ server }) => proveSight(server, settings.clickhouse.database)));
    return verifyHosts({
      hosts,
      missing: [],
      layout,
      ...fromSettings(settings),
      // Of who records migrations, which isn't done here.
      version: '',
      logger,
    });
  }

  #take(verifications: readonly HostVerification[]): void {
    const conflict = conflictOf(verifications);
    if (conflict !== undefined) {
      this.#unknown(conflict);
      return;
    }
    this.#blind = '';
    this.#show(verifications);
    for (const verification of verifications) this.#log(verification);
  }

  #failed(error: unknown): void {
    const { logger } = this.#options;
    const denied = error instanceof Fault && DENIED.includes(error.code);
    if (denied || error instanceof ConfigurationError) this.#unknown(error.message);
    else if (error instanceof Fault) logger.debug({ reason: error.message }, 'could not compare the tables');
    else logger.error({ err: error }, `comparing the tables failed: ${messageOf(error)}`);
  }

  /** Until somebody changes something. Logged once. */
  #unknown(reason: string): void {
    this.#show([]);
    if (reason !== this.#blind) {
      const words = 'whether the tables are as declared is not known here: `sluice migrate verify` tells';
      this.#options.logger.info({ reason }, words);
    }
    this.#blind = reason;
  }

  #show(verifications: readonly HostVerification[]): void {
    const { schemaDrift } = this.#options.instruments;
    const hosts = new Set(verifications.map(({ host }) => host));
    for (const host of this.#shown) if (!hosts.has(host)) schemaDrift.remove({ host });
    for (const verification of verifications) {
      schemaDrift.set({ host: verification.host }, driftOf(verification));
    }
    this.#shown = hosts;
  }

  /** When it begins, and when it ends. */
  #log(verification: HostVerification): void {
    const { logger } = this.#options;
    const { host } = verification;
    const differences = driftOf(verification);
    if (differences === 0) {
      if (this.#drifting.delete(host)) logger.info({ host }, 'over: the tables are as declared again');
      return;
    }
    if (this.#drifting.has(host)) return;
    this.#drifting.add(host);
    const [, ...lines] = verificationLines(verification);
    const words =
      'tables differ from what is declared: `sluice migrate verify` shows all, ' +
      '`sluice migrate repair` mends what can be mended without losing or rewriting data';
    logger.warn({ host, differences, lines: lines.slice(0, LINES_MAX) }, words);
  }
}

/**
 * Tables that a user may not see look like tables that are missing. Whoever may see all of a database may ask
 * for a name that nobody has. @throws Fault ACCESS_DENIED for the others
 */
async function proveSight(server: ClickHouse, database: string): Promise<void> {
  await query(server, `EXISTS TABLE ${quote(database)}.${quote('sluice_sight')}`);
}

/**
 * Why these migrations can't say how the tables should be: the ledger has others, of a newer version of this
 * program or of a folder that isn't set here. In words; undefined where they can.
 */
function conflictOf(verifications: readonly HostVerification[]): string | undefined {
  const about = verifications.flatMap(({ differences }) => differences);
  return about.find(({ kind, item }) => kind === 'ledger' && item === '')?.note;
}
