/**
 * One story: gateways and writers that come and go, requests that a client sends until they are acknowledged,
 * and in the end each record exactly once, and the books right.
 */
import { Redis } from 'ioredis';
import { expect } from 'vitest';
import { type Ended, type Program, begin, start } from '../support/program.ts';
import { freePort, eventually } from '../support/services.ts';
import { sendHttp } from '../support/clients.ts';
import { tracesRequest } from '../support/requests.ts';
import { type HttpProxy, startHttpProxy } from './http-proxy.ts';
import type { Place } from './place.ts';
import { RedisProxy } from './redis-proxy.ts';
import type { Stop } from './stop.ts';

type Environment = Readonly<Record<string, string>>;
type Kind = 'gateway' | 'writer';

/** To and from a process of the program. */
export interface Ways {
  readonly redis: RedisProxy;
  /** To ClickHouse, in the order of the shards. A gateway without a cluster doesn't use it. */
  readonly clickhouse: readonly HttpProxy[];
  /** Before the HTTP port of a gateway: clients go through it. */
  readonly front: HttpProxy;
  readonly httpPort: number;
}

export interface Role extends Ways {
  readonly program: Program;
  /** kill -9. */
  kill(): Promise<void>;
}

export interface Request {
  readonly number: number;
  readonly body: Buffer;
}

export interface Copies {
  readonly number: number;
  readonly rows: number;
  readonly spans: number;
}

/** What should be found of a request. */
export function once({ number }: Request): Copies {
  return { number, rows: SPANS, spans: SPANS };
}

/** What the client knows after one try. */
export type Told = 'acknowledged' | 'later' | 'nothing';

/** Of each request: enough for every shard of a few to have some. */
export const SPANS = 20;

/** A batch of a writer that died is with another one after 6 s, and this machine may be busy. */
const PATIENCE_MS = 45_000;
const PACE = {
  SLUICE_BATCH_AGE_MS_MAX: '50',
  SLUICE_WRITE_SWEEP_MS: '200',
  SLUICE_WRITE_RETRY_MS_MIN: '50',
  SLUICE_WRITE_RETRY_MS_MAX: '200',
  SLUICE_CLICKHOUSE_HEALTH_CHECK_MS: '500',
  SLUICE_CLICKHOUSE_WATCH_MS: '500',
  SLUICE_CLICKHOUSE_REPLICA_RETURN_MS: '0',
  SLUICE_DRAIN_MS_MAX: '8000',
  SLUICE_LOG_LEVEL: 'debug',
  // Who is held at a stop isn't late: nobody gives up on it, or pushes clients back, before the test goes on.
  SLUICE_REDIS_TIMEOUT_MS: '60000',
  SLUICE_PRESSURE_COMMIT_MS_MAX: '600000',
};
/** Whoever seals at once: a request is a batch. */
export const SEALS_AT_ONCE = { SLUICE_BATCH_ROWS_MAX: String(SPANS) };
/** Nobody seals by age but after a minute. */
export const SEALS_LATE = { SLUICE_BATCH_AGE_MS_MAX: '60000' };

/** Rows, all shards together. */
export type Books = Readonly<Record<(typeof BOOKS)[number], number>>;
const BOOKS = ['accepted', 'written', 'waiting', 'dead', 'dropped'] as const;
const NO_BOOKS: Books = { accepted: 0, written: 0, waiting: 0, dead: 0, dropped: 0 };

/** Every request goes through the large lane. */
export const ALL_LARGE = { SLUICE_RECEIVE_INLINE_BYTES_MAX: '0' };

let requests = 0;

export class Scene {
  /** Of the scene's own database, not through a proxy. */
  readonly redis: Redis;
  readonly redisUrl: string;
  readonly #place: Place;
  readonly #database: number;
  readonly #roles: Role[] = [];
  readonly #proxies: (RedisProxy | HttpProxy)[] = [];
  #requests: Request[] = [];
  #booksBefore: Books = NO_BOOKS;

  constructor(place: Place, database: number) {
    this.#place = place;
    this.#database = database;
    this.redisUrl = `redis://127.0.0.1:${place.redisPort}/${database}`;
    this.redis = new Redis({ port: place.redisPort, host: '127.0.0.1', db: database, lazyConnect: true });
    // Servers are killed here; it connects again by itself.
    this.redis.on('error', () => {});
  }

  /** Resolves when it is ready. */
  gateway(extra: Environment = {}): Promise<Role> {
    return this.#start('gateway', extra);
  }

  writer(extra: Environment = {}): Promise<Role> {
    return this.#start('writer', extra);
  }

  /** Starts a role without waiting for it, for stops on its way to being ready. */
  async begin(kind: Kind, stopIt: (ways: Ways) => Stop): Promise<{ role: Role; stop: Stop }> {
    const ways = await this.#ways();
    const stop = stopIt(ways);
    const role = this.#join(ways, begin(kind, await this.#environment(ways, {})));
    return { role, stop };
  }

  /** A request with records that nobody else sends. */
  request(): Request {
    const number = requests++;
    const made = { number, body: tracesRequest(SPANS, number) };
    this.#requests.push(made);
    return made;
  }

  /** Sends it once. */
  async send({ body }: Request, gateway: Role): Promise<Told> {
    try {
      const { kind } = await sendHttp(gateway.front.url, 'traces', body);
      if (kind !== 'accept' && kind !== 'later') throw new Error(`the answer is ${kind}`);
      return kind === 'accept' ? 'acknowledged' : 'later';
    } catch (error) {
      if (error instanceof TypeError) return 'nothing';
      throw error;
    }
  }

  /** As a real client does: again and again until it is acknowledged. */
  async deliver(request: Request, gateway: Role): Promise<void> {
    const acknowledged = async () => (await this.send(request, gateway)) === 'acknowledged';
    await eventually('an acknowledgement', acknowledged, PATIENCE_MS);
  }

  /** From now on only what comes is looked at. */
  async turnPage(): Promise<void> {
    this.#requests = [];
    this.#booksBefore = await this.books();
  }

  /** Every record since `turnPage` is in ClickHouse once, nothing waits anywhere, the books are right. */
  async expectExactlyOnce(): Promise<void> {
    const rows = this.#requests.length * SPANS;
    await this.untilWritten();
    expect(await this.copies()).toEqual(this.#requests.map(once));
    expect(await this.since()).toEqual({ ...NO_BOOKS, accepted: rows, written: rows });
    expect(await this.redis.keys('{s*}:batch:*')).toEqual([]);
  }

  /** Nothing waits, nobody is at an insert, and no job is left. */
  async untilWritten(): Promise<void> {
    await eventually('an empty queue', async () => (await this.books()).waiting === 0, PATIENCE_MS);
    await eventually('no insert under way', async () => {
      const sql = `SELECT count() AS n FROM system.processes WHERE query LIKE 'INSERT%'`;
      return Number((await this.#place.rows<{ n: string }>(sql))[0]?.n) === 0;
    }, PATIENCE_MS);
    await eventually('no job left', async () => (await this.jobs()) === 0, PATIENCE_MS);
  }

  /** Jobs of BullMQ: those that wait, that are delayed, that somebody has. */
  async jobs(): Promise<number> {
    const keys = await this.redis.keys('{s*}:insert:*');
    return keys.filter((key) => /:insert:[0-9a-f]{24}-/.test(key) && !key.endsWith(':lock')).length;
  }

  async books(signal = 'traces'): Promise<Books> {
    const keys = await this.redis.keys('{s*}:counts');
    const all = await Promise.all(keys.map((key) => this.redis.hgetall(key)));
    const sum = (name: string) =>
      all.reduce((total, counts) => total + Number(counts[`${name}:${signal}`] ?? 0), 0);
    return Object.fromEntries(BOOKS.map((name) => [name, sum(name)])) as Books;
  }

  /** What has changed in the books since `turnPage`. */
  async since(): Promise<Books> {
    const now = await this.books();
    return Object.fromEntries(BOOKS.map((name) => [name, now[name] - this.#booksBefore[name]])) as Books;
  }

  /** Rows that Redis has taken since then. */
  async accepted(): Promise<number> {
    return (await this.since()).accepted;
  }

  /** What ClickHouse has of the requests: all rows, and different ones. */
  async copies(requests: readonly Request[] = this.#requests): Promise<Copies[]> {
    const numbers = requests.map(({ number }) => number);
    const found = await this.#place.rows<Record<keyof Copies, string>>(
      `SELECT reinterpretAsUInt32(reverse(unhex(substring(SpanId, 1, 8)))) - 1 AS number, count() AS rows,
         uniqExact(SpanId) AS spans
       FROM otel.otel_traces WHERE number IN (${numbers.join(', ')}) GROUP BY number ORDER BY number`,
    );
    return found.map(({ number, rows, spans }) => ({
      number: Number(number),
      rows: Number(rows),
      spans: Number(spans),
    }));
  }

  async end(): Promise<void> {
    await Promise.all(this.#roles.map(({ program }) => program.end('SIGKILL')));
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
    this.redis.disconnect();
  }

  async #start(kind: Kind, extra: Environment): Promise<Role> {
    const ways = await this.#ways();
    return this.#join(ways, await start(kind, await this.#environment(ways, extra)));
  }

  async #ways(): Promise<Ways> {
    const { redisPort, hosts } = this.#place;
    const httpPort = await freePort();
    const redis = await RedisProxy.start(redisPort);
    const front = await startHttpProxy(httpPort);
    const clickhouse = await Promise.all(hosts.map((host) => startHttpProxy(host.httpPort)));
    this.#proxies.push(redis, front, ...clickhouse);
    return { redis, front, clickhouse, httpPort };
  }

  async #environment({ redis, clickhouse, httpPort }: Ways, extra: Environment): Promise<Record<string, string>> {
    const { hosts, cluster } = this.#place;
    const addresses = hosts.map(({ tcpPort }, i) => `127.0.0.1:${tcpPort}=${clickhouse[i]?.url}`);
    return {
      SLUICE_HTTP_ADDR: `127.0.0.1:${httpPort}`,
      SLUICE_GRPC_ADDR: `127.0.0.1:${await freePort()}`,
      SLUICE_ADMIN_ADDR: `127.0.0.1:${await freePort()}`,
      SLUICE_REDIS_URL: `redis://127.0.0.1:${redis.port}/${this.#database}`,
      SLUICE_CLICKHOUSE_URL: clickhouse.map(({ url }) => url).join(','),
      SLUICE_CLICKHOUSE_CLUSTER: cluster,
      ...(cluster === '' ? {} : { SLUICE_CLICKHOUSE_ADDRESSES: addresses.join(',') }),
      ...PACE,
      ...extra,
    };
  }

  #join(ways: Ways, program: Program): Role {
    const kill = async (): Promise<void> => {
      await program.end('SIGKILL');
    };
    const role = { ...ways, program, kill };
    this.#roles.push(role);
    return role;
  }
}

/** How a role ended that was asked to. */
export function endOf(role: Role): Promise<Ended> {
  return role.program.end('SIGTERM');
}
