/**
 * The masters of a Redis Cluster, and which slots each has. The table is learned at the start and again when
 * something contradicts it: a MOVED answer, a node that broke, a cluster that says it is down. Until the
 * nodes of all slots that were asked for are there it is looked at again and again, in the background.
 */
import { sleep, tickMs } from '../base/clock.ts';
import { Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Address } from '../config/settings.ts';
import type { RedisAccess } from './access.ts';
import { reconnectDelayMs } from './backoff.ts';
import { Moved, unavailable } from './faults.ts';
import { LeanConnection } from './lean.ts';
import { RedisNode } from './node.ts';
import type { Reply } from './replies.ts';
import { type SlotRange, SLOTS, readSlots, slotOf } from './slots.ts';
import { showAddress } from './url.ts';

export interface ClusterOptions {
  /** Any of its nodes; the others are learned from them. */
  readonly nodes: readonly Address[];
  readonly access: RedisAccess;
  readonly timeoutMs: number;
  readonly logger: Logger;
  /** Called when `ready` may have changed. */
  readonly onChange: () => void;
}

/** Of one node that is asked for the slots: others are asked at the same time. */
const ANSWER_MS_MAX = 1_000;
/** Nodes asked at once: the first answer counts, and a wrong one is contradicted soon. */
const ASKED_MAX = 3;
/** After so long without a look the next one comes at once again. */
const QUIET_MS = 10_000;

interface Member {
  readonly address: Address;
  readonly node: RedisNode;
  /** Resolves when its first attempt to connect is over, whatever came of it. */
  readonly opened: Promise<void>;
}

export class ClusterNodes {
  readonly #options: ClusterOptions;
  readonly #members = new Map<string, Member>();
  /** By slot. */
  #owners: (Member | undefined)[] = [];
  #replicas: readonly Address[] = [];
  /** Slots of the keys that commands were about so far: those that matter here. */
  readonly #asked = new Set<number>();
  #looking = false;
  #timer: NodeJS.Timeout | undefined;
  #looks = 0;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  /** Whether the masters of all slots asked for (of all there are, before the first) take commands. */
  get ready(): boolean {
    if (this.#asked.size === 0) {
      return this.#owners.length === SLOTS && this.#owners.every((owner) => owner?.node.ready);
    }
    for (const slot of this.#asked) if (!this.#owners[slot]?.node.ready) return false;
    return true;
  }

  get masters(): readonly LeanConnection[] {
    return this.#masters().map(({ node }) => node.connection);
  }

  /** Resolves when all masters take commands; rejects with the first Fault, and is tried on. */
  async connect(): Promise<void> {
    try {
      await this.#learn();
      await Promise.all(this.#masters().map(({ opened }) => opened));
      const away = this.masters.map((master) => master.refusal()).find((fault) => fault !== undefined);
      if (away !== undefined) throw away;
      if (!this.ready) throw unavailable('some slots of the cluster have no master');
    } catch (error) {
      this.#lookSoon();
      throw error;
    }
  }

  /** Where the key is; `undefined` while nobody has its slot. */
  homeOf(key: string): Address | undefined {
    return this.#owners[slotOf(key)]?.address;
  }

  /**
   * Lets `action` talk to the master of the key, or to any where there is none. When that one says that
   * another master has the slot (nothing was carried out then), it is done once more with that one.
   */
  async send<T>(key: string | undefined, action: (node: RedisNode) => Promise<T>): Promise<T> {
    const member = this.#memberOf(key);
    try {
      return await action(member.node);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (!(error instanceof Moved)) {
        if (error.code === 'redis_unavailable') this.#lookSoon();
        throw error;
      }
      const next = this.#moved(error, member.address);
      await within(ANSWER_MS_MAX, next.opened);
      return await action(next.node);
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const { node } of this.#members.values()) node.close();
  }

  #masters(): Member[] {
    return [...new Set(this.#owners)].filter((owner) => owner !== undefined);
  }

  /** @throws Fault where nobody has the slot */
  #memberOf(key: string | undefined): Member {
    if (key === undefined) {
      const masters = this.#masters();
      const any = masters.find(({ node }) => node.ready) ?? masters[0];
      if (any === undefined) throw unavailable('the nodes of the cluster are not known yet');
      return any;
    }
    const slot = slotOf(key);
    this.#asked.add(slot);
    const owner = this.#owners[slot];
    if (owner !== undefined) return owner;
    this.#lookSoon();
    throw unavailable(`no master of the cluster is known for slot ${slot}`);
  }

  #moved(moved: Moved, from: Address): Member {
    const host = moved.host === '' ? from.host : moved.host;
    const member = this.#join({ host, port: moved.port });
    if (this.#owners[moved.slot] !== member) {
      this.#owners[moved.slot] = member;
      // It is seldom the only one.
      this.#lookSoon();
    }
    return member;
  }

  #join(address: Address): Member {
    const name = showAddress(address);
    const known = this.#members.get(name);
    if (known !== undefined) return known;
    const { access, timeoutMs, logger } = this.#options;
    const node = new RedisNode({
      endpoint: { ...access, ...address },
      timeoutMs,
      logger,
      onMoved: (moved) => this.#moved(moved, address),
      onChange: () => {
        if (!node.ready) this.#lookSoon();
        this.#options.onChange();
      },
    });
    const opened = node.connect().catch((error) => {
      logger.debug({ node: name, reason: messageOf(error) }, 'a node of the cluster is away');
      this.#lookSoon();
    });
    const member = { address, node, opened };
    this.#members.set(name, member);
    return member;
  }

  /** Many wishes are one look; the more looks there were lately, the later it comes. */
  #lookSoon(): void {
    if (this.#closed || this.#looking || this.#timer !== undefined) return;
    if (tickMs() - this.#lookedMs > QUIET_MS) this.#looks = 0;
    this.#timer = setTimeout(() => void this.#look(), reconnectDelayMs(this.#looks));
    this.#looks += 1;
  }

  async #look(): Promise<void> {
    this.#timer = undefined;
    this.#looking = true;
    this.#lookedMs = tickMs();
    try {
      await this.#learn();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#options.logger.debug({ reason: error.message }, 'the slots of the cluster are not known');
    } finally {
      this.#looking = false;
    }
    if (!this.ready) this.#lookSoon();
  }

  /** @throws Fault when no node could say which slots there are */
  async #learn(): Promise<void> {
    let ranges: SlotRange[];
    try {
      ranges = await Promise.any(this.#candidates().map((address) => this.#ask(address)));
    } catch (error) {
      const faults = error instanceof AggregateError ? error.errors : [error];
      throw faults.find((fault) => fault instanceof Fault && fault.retry === 'never') ?? faults[0];
    }
    if (!this.#closed) this.#apply(ranges);
  }

  /** Two that we are connected to, and one of the others: those may all have the same wrong idea. */
  #candidates(): Address[] {
    const members = [...this.#members.values()];
    const ready = members.filter(({ node }) => node.ready).map(({ address }) => address);
    const taken = shuffled(ready).slice(0, ASKED_MAX - 1);
    const names = new Set(taken.map(showAddress));
    const away = members.filter(({ node }) => !node.ready).map(({ address }) => address);
    const others = shuffled([...away, ...this.#replicas, ...this.#options.nodes]);
    for (const address of others) {
      if (taken.length === ASKED_MAX) break;
      if (!names.has(showAddress(address))) taken.push(address);
      names.add(showAddress(address));
    }
    return taken;
  }

  async #ask(address: Address): Promise<SlotRange[]> {
    const { access, logger } = this.#options;
    const command = ['CLUSTER', 'SLOTS'];
    const member = this.#members.get(showAddress(address));
    let reply: Reply;
    if (member?.node.ready) {
      reply = await within(ANSWER_MS_MAX, member.node.connection.command(command));
    } else {
      const timeoutMs = Math.min(this.#options.timeoutMs, ANSWER_MS_MAX);
      const endpoint = { ...access, ...address };
      const connection = new LeanConnection({ endpoint, timeoutMs, logger, renewed: false });
      try {
        await connection.connect();
        reply = await connection.command(command);
      } finally {
        connection.close();
      }
    }
    const ranges = readSlots(reply, address);
    if (ranges.length === 0) throw unavailable(`${showAddress(address)} knows of no slots`);
    return ranges;
  }

  #apply(ranges: readonly SlotRange[]): void {
    const owners = new Array<Member | undefined>(SLOTS).fill(undefined);
    for (const { first, last, master } of ranges) owners.fill(this.#join(master), first, last + 1);
    this.#owners = owners;
    this.#replicas = ranges.flatMap(({ replicas }) => replicas);
    const masters = new Set(owners);
    for (const [name, member] of this.#members) {
      const { node } = member;
      // One that still has to answer stays until the next look.
      if (masters.has(member) || (node.ready && !node.connection.idle)) continue;
      this.#members.delete(name);
      node.close();
    }
    this.#options.onChange();
  }
}

/** @throws Fault when the work takes longer; what it comes to then is nobody's concern */
async function within<T>(msMax: number, work: Promise<T>): Promise<T> {
  const ended = new AbortController();
  const late = sleep(msMax, ended.signal).then(() => {
    throw unavailable(`a node of the cluster has not answered within ${msMax} ms`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    // The loser is left alone, and must not count as unhandled.
    late.catch(() => undefined);
    ended.abort();
  }
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, place: Math.random() }))
    .sort((one, other) => one.place - other.place)
    .map(({ item }) => item);
}
