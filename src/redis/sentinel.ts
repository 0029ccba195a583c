/**
 * Where the master is, by the sentinels' word. They are asked when a connection is made, and every second
 * while there is one: a failover that an operator asks for leaves the old master alive, and it takes writes
 * for ten seconds more (which are lost then), until the sentinels demote it.
 */
import { sleep } from '../base/clock.ts';
import { Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Address } from '../config/settings.ts';
import type { RedisAccess } from './access.ts';
import { unavailable } from './faults.ts';
import { LeanConnection } from './lean.ts';
import type { Reply } from './replies.ts';
import { showAddress } from './url.ts';

export interface SentinelOptions {
  readonly sentinels: readonly Address[];
  /** Under which they know the master. */
  readonly name: string;
  /** To the sentinels themselves. */
  readonly access: RedisAccess;
  readonly timeoutMs: number;
  readonly logger: Logger;
}

/** One that lies on the machine that has just vanished must not hold up the others' answers. */
const ANSWER_MS_MAX = 1_000;
/** With jitter between half and all of it more. */
const WATCH_MS = 700;

interface Word {
  readonly master: Address;
  /** Grows with each failover. */
  readonly epoch: number;
}

interface Verdict {
  readonly master: Address;
  /** Whether more than half of the sentinels were heard. */
  readonly majority: boolean;
}

export class Sentinels {
  readonly #options: SentinelOptions;
  readonly #connections = new Map<Address, LeanConnection>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: SentinelOptions) {
    this.#options = options;
  }

  /**
   * Where the master is.
   * @throws Fault `redis_unavailable` when no sentinel answers, `redis_auth` when they refuse us,
   *   `redis_error` (never) when none knows the name
   */
  async master(): Promise<Address> {
    return (await this.#ask()).master;
  }

  /**
   * From now on, until `close`, compares the server that is used with what most sentinels say, and calls
   * `moved` where they differ.
   */
  watch(used: () => Address | undefined, moved: () => void): void {
    if (this.#closed) return;
    this.#timer = setTimeout(
      async () => {
        await this.#compare(used, moved);
        this.watch(used, moved);
      },
      WATCH_MS * (1.5 + Math.random() / 2),
    );
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const connection of this.#connections.values()) connection.close();
  }

  async #compare(used: () => Address | undefined, moved: () => void): Promise<void> {
    const before = used();
    if (before === undefined) return;
    try {
      const { master, majority } = await this.#ask();
      const differs = master.host !== before.host || master.port !== before.port;
      if (majority && differs && used() === before) moved();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#options.logger.debug({ reason: messageOf(error) }, 'the sentinels can not be asked');
    }
  }

  /**
   * Asks all at once and believes the newest word of the first majority, or of those that answer in time:
   * one that was cut off tells of a master that may be none any more.
   */
  async #ask(): Promise<Verdict> {
    const { sentinels, name, timeoutMs } = this.#options;
    const words: Word[] = [];
    const faults: Fault[] = [];
    let ignorant = 0;
    const enough = new AbortController();
    const asking = sentinels.map(async (sentinel) => {
      try {
        const word = await this.#askOne(sentinel);
        if (word === undefined) ignorant += 1;
        else words.push(word);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        faults.push(new Fault(error.code, error.retry, `${showAddress(sentinel)}: ${error.message}`));
      }
      if (words.length > sentinels.length / 2) enough.abort();
    });
    await Promise.race([Promise.all(asking), sleep(timeoutMs, enough.signal)]);
    enough.abort();
    const newest = words.reduce<Word | undefined>(
      (best, word) => (best !== undefined && best.epoch >= word.epoch ? best : word),
      undefined,
    );
    if (newest !== undefined) {
      return { master: newest.master, majority: words.length > sentinels.length / 2 };
    }
    if (ignorant > 0) throw new Fault('redis_error', 'never', `the sentinels know no master named ${name}`);
    const refused = faults.find(({ code }) => code === 'redis_auth');
    const said = faults.map(({ message }) => message).join('; ') || 'no answer in time';
    if (refused === undefined) throw unavailable(`no sentinel can be asked (${said})`);
    throw new Fault(refused.code, refused.retry, `the sentinels refuse us (${said})`);
  }

  async #askOne(sentinel: Address): Promise<Word | undefined> {
    const connection = await this.#connect(sentinel);
    const { name } = this.#options;
    const [address, facts] = await Promise.all([
      connection.command(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name]),
      // Refused where it knows no such name, or where a sentinel's user may ask for the address only.
      connection.command(['SENTINEL', 'MASTER', name]).catch(() => null),
    ]);
    if (!Array.isArray(address)) return undefined;
    const [host, port] = address.map(String);
    return { master: { host: host ?? '', port: Number(port) }, epoch: epochIn(facts) };
  }

  /** The connection is kept for the next question. */
  async #connect(sentinel: Address): Promise<LeanConnection> {
    const known = this.#connections.get(sentinel);
    if (known?.ready) return known;
    known?.close();
    const { access, logger } = this.#options;
    const timeoutMs = Math.min(this.#options.timeoutMs, ANSWER_MS_MAX);
    const endpoint = { ...sentinel, ...access };
    const connection = new LeanConnection({ endpoint, timeoutMs, logger, renewed: false });
    this.#connections.set(sentinel, connection);
    await connection.connect();
    if (this.#closed) connection.close();
    return connection;
  }
}

/** From a flat list of names and values. */
function epochIn(facts: Reply): number {
  if (!Array.isArray(facts)) return 0;
  const at = facts.indexOf('config-epoch');
  return at < 0 ? 0 : Number(facts[at + 1]);
}
