/**
 * Carries out the plan against the world, and mends everything at the end. Faults of one target follow each
 * other; those of different targets overlap as planned. A deed that can't be done now (its server is just
 * away) is noted as missed, never as an error: the storm goes on.
 */
import { sleep, tickMs } from '../../../src/base/clock.ts';
import { messageOf } from '../../../src/base/errors.ts';
import type { StormClickHouse, TableFault } from './clickhouse.ts';
import { type PlannedFault, describeFault, directionOf } from './plan.ts';
import type { Role } from './role.ts';
import { type World, allStarted } from './world.ts';

/** Longer than the setting, which bounds the drain itself. */
const DRAIN_MS_MAX = 30_000;
const AT_WORK_MS_MAX = 4_000;
const AT_WORK_POLL_MS = 100;
const HEAL_TRIES_MAX = 60;
const HEAL_RETRY_MS = 500;
/** As the server was started with. */
const REDIS_MEMORY_BYTES = 1_280 * 2 ** 20;

/** A fault as it came about; times in ms since the load began. */
export interface Happened {
  readonly fault: PlannedFault;
  readonly fromMs: number;
  untilMs: number | undefined;
  /** Why it could not be done. */
  missed: string | undefined;
}

export class Faults {
  readonly happened: Happened[] = [];
  readonly #world: World;
  readonly #note: (text: string) => void;
  readonly #incident: (text: string) => void;
  readonly #chains = new Map<string, Promise<void>>();
  /** Ends what lasts. */
  readonly #ending = new AbortController();
  readonly #refusing = new Map<string, { server: StormClickHouse; table: string; fault: TableFault }>();
  #startedAtMs = 0;

  constructor(world: World, note: (text: string) => void, incident: (text: string) => void) {
    this.#world = world;
    this.#note = note;
    this.#incident = incident;
  }

  get active(): Happened[] {
    return this.happened.filter(({ untilMs }) => untilMs === undefined);
  }

  /** Resolves when the last fault of the plan has begun, or once `stop` was called. */
  async run(plan: readonly PlannedFault[]): Promise<void> {
    this.#startedAtMs = tickMs();
    for (const fault of plan) {
      await sleep(this.#startedAtMs + fault.atMs - tickMs(), this.#ending.signal);
      if (this.#ending.signal.aborted) return;
      const before = this.#chains.get(fault.target) ?? Promise.resolve();
      this.#chains.set(fault.target, before.then(() => this.#happen(fault)));
    }
  }

  /** Ends what lasts, and puts everything right. Resolves when every process works again. @throws Error */
  async heal(): Promise<void> {
    this.#ending.abort();
    await Promise.all(this.#chains.values());
    const { links, redis, roles } = this.#world;
    for (const link of links.values()) link.heal();
    await insist(() => redis.everywhere('CONFIG', 'SET', 'maxmemory', String(REDIS_MEMORY_BYTES)));
    for (const server of this.#world.clickhouse) await insist(() => server.mend());
    for (const { server, table, fault } of this.#refusing.values()) {
      await insist(() => server.accept(table, fault));
    }
    await allStarted(roles);
    for (const role of roles.values()) await role.shiftClock(0);
  }

  async #happen(fault: PlannedFault): Promise<void> {
    if (this.#ending.signal.aborted) return;
    const happened: Happened = { fault, fromMs: this.#nowMs(), untilMs: undefined, missed: undefined };
    this.happened.push(happened);
    const text = `${happened.fromMs} ms, fault ${fault.number}: ${describeFault(fault)}`;
    try {
      this.#note(text);
      await this.#do(fault);
    } catch (error) {
      happened.missed = messageOf(error);
      this.#note(`${text}: missed, ${happened.missed.split('\n')[0]}`);
    }
    happened.untilMs = this.#nowMs();
  }

  #nowMs(): number {
    return Math.round(tickMs() - this.#startedAtMs);
  }

  #last(fault: PlannedFault): Promise<void> {
    return sleep(fault.durationMs, this.#ending.signal);
  }

  async #do(fault: PlannedFault): Promise<void> {
    if (fault.target === 'redis') return this.#toRedis(fault);
    const role = this.#world.roles.get(fault.target);
    if (role !== undefined) return this.#toRole(role, fault);
    if (this.#world.links.has(fault.target)) return this.#toLink(fault);
    return this.#toClickHouse(fault);
  }

  async #toRole(role: Role, fault: PlannedFault): Promise<void> {
    switch (fault.kind) {
      case 'kill':
        await this.#atWork(role);
        await role.end('SIGKILL');
        await this.#last(fault);
        return role.start();
      case 'drain':
        await this.#atWork(role);
        await this.#drain(role);
        await this.#last(fault);
        return role.start();
      case 'freeze':
        role.freeze();
        await this.#last(fault);
        return role.thaw();
      case 'clock jump':
        return role.shiftClock(fault.shiftMs);
      default:
        throw new Error(`no such fault of a role: ${fault.kind}`);
    }
  }

  /** Without Redis a role can't hand back its jobs: then its end may be forced, within its bound. */
  async #drain(role: Role): Promise<void> {
    const fromMs = this.#nowMs();
    const complaint = await role.drain(DRAIN_MS_MAX);
    const disturbed = this.happened.some(({ fault: { target }, untilMs = fromMs }) => {
      return untilMs >= fromMs && (target === 'redis' || target === `${role.name}>redis`);
    });
    if (complaint !== undefined && !disturbed) this.#incident(complaint);
  }

  /** On a busy machine a role needs a while to come back: not all are to be killed before they work. */
  async #atWork(role: Role): Promise<void> {
    const untilMs = tickMs() + AT_WORK_MS_MAX;
    while (tickMs() < untilMs && !(await role.isStarted())) await sleep(AT_WORK_POLL_MS, this.#ending.signal);
  }

  async #toLink(fault: PlannedFault): Promise<void> {
    const link = this.#world.links.get(fault.target);
    if (link === undefined) throw new Error(`no such link: ${fault.target}`);
    if (fault.kind === 'cut') return link.cut();
    if (fault.kind === 'slow') link.delayMs = fault.delayMs;
    else if (fault.kind === 'halt') link.halt();
    else if ('bytes' in fault) link.cutAfter(directionOf(fault.kind), fault.bytes);
    await this.#last(fault);
    if (fault.kind === 'halt' && fault.forgets) link.cut();
    link.heal();
  }

  async #toRedis(fault: PlannedFault): Promise<void> {
    const { redis } = this.#world;
    switch (fault.kind) {
      case 'kill':
        await redis.whole();
        await redis.kill(fault.nth);
        await this.#last(fault);
        return insist(() => redis.restart());
      case 'freeze':
        await redis.whole();
        await redis.freeze(fault.nth);
        await this.#last(fault);
        return redis.thaw();
      case 'memory full':
        return this.#fillRedis(fault, fault.roomBytes);
      case 'scripts flushed':
        await redis.everywhere('SCRIPT', 'FLUSH');
        return;
      case 'clients cut':
        await redis.everywhere('CLIENT', 'KILL', 'TYPE', 'normal');
        return;
      default:
        throw new Error(`no such fault of Redis: ${fault.kind}`);
    }
  }

  async #fillRedis(fault: PlannedFault, roomBytes: number): Promise<void> {
    const { redis } = this.#world;
    const [info] = await redis.everywhere('INFO', 'memory');
    const used = Number(/^used_memory:(\d+)/m.exec(String(info))?.[1]);
    await redis.everywhere('CONFIG', 'SET', 'maxmemory', String(used + roomBytes));
    await this.#last(fault);
    await insist(() => redis.everywhere('CONFIG', 'SET', 'maxmemory', String(REDIS_MEMORY_BYTES)));
  }

  async #toClickHouse(fault: PlannedFault): Promise<void> {
    const server = this.#world.clickhouse[Number(fault.target.split('-').at(-1))];
    if (server === undefined) throw new Error(`no such target: ${fault.target}`);
    switch (fault.kind) {
      case 'kill':
        await server.kill();
        await this.#last(fault);
        return insist(() => server.start());
      case 'freeze':
        server.freeze();
        await this.#last(fault);
        return server.thaw();
      case 'disk full':
      case 'too many parts': {
        const { kind, table, target } = fault;
        // Before the attempt: an ALTER whose answer is lost may have been carried out.
        this.#refusing.set(`${target} ${table} ${kind}`, { server, table, fault: kind });
        await server.refuse(table, kind);
        await this.#last(fault);
        return insist(() => server.accept(table, kind));
      }
      default:
        throw new Error(`no such fault of ClickHouse: ${fault.kind}`);
    }
  }
}

/** What puts things right has to work in the end. @throws the last error */
async function insist<T>(step: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await step();
    } catch (error) {
      if (tries >= HEAL_TRIES_MAX) throw error;
      await sleep(HEAL_RETRY_MS);
    }
  }
}
