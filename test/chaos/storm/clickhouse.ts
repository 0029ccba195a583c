/** A ClickHouse server of the storm, one a shard: killed and started again on its data, frozen, "full". */
import { startEmbeddedClickHouse } from '../../../src/embedded/clickhouse.ts';
import type { EmbeddedService } from '../../../src/embedded/service.ts';
import { clusterXml, macrosXml } from '../../../src/embedded/shards.ts';
import { freePort, silent } from '../../support/services.ts';

export const CLUSTER = 'main';
const MEMORY_BYTES_MAX = 3 * 2 ** 30;
const ALTER_MS_MAX = 5_000;
const PING_MS_MAX = 5_000;

/** What a table is told, so that it refuses inserts; and with which code. */
export const TABLE_FAULTS = {
  /** 243, NOT_ENOUGH_SPACE. */
  'disk full': { min_free_disk_bytes_to_perform_insert: 10 ** 15 },
  /** 252, TOO_MANY_PARTS. */
  'too many parts': { parts_to_throw_insert: 1, parts_to_delay_insert: 1 },
} as const;
export type TableFault = keyof typeof TABLE_FAULTS;

export interface Place {
  readonly dataDir: string;
  readonly httpPort: number;
  readonly tcpPort: number;
}

export async function placeIn(dataDir: string): Promise<Place> {
  return { dataDir, httpPort: await freePort(), tcpPort: await freePort() };
}

export class StormClickHouse {
  readonly place: Place;
  readonly url: string;
  readonly #start: () => Promise<EmbeddedService>;
  #service: EmbeddedService | undefined;
  /** Whether it is meant to answer now. */
  #meantUp = false;
  #steps: Promise<unknown> = Promise.resolve();
  /**
   * How often it ended without being killed. The embedded server does so now and then when a connection
   * breaks under an answer (an uncaught "Broken pipe"): one more way to lose a server, and none of Sluice's.
   */
  crashes = 0;

  /** @param places of all shards, in their order; this one's is the `shard`-th */
  constructor(places: readonly Place[], shard: number) {
    this.place = places[shard] as Place;
    this.url = `http://127.0.0.1:${this.place.httpPort}`;
    const ports = places.map(({ tcpPort }) => tcpPort);
    const configXml = clusterXml(CLUSTER, ports) + macrosXml(shard);
    const options = { ...this.place, configXml, memoryBytesMax: MEMORY_BYTES_MAX, logger: silent };
    this.#start = () => startEmbeddedClickHouse(options);
  }

  start(): Promise<void> {
    return this.#inTurn(() => this.#up());
  }

  kill(): Promise<void> {
    return this.#inTurn(() => this.#kill());
  }

  /** Starts it again where it has crashed. @throws Error when it doesn't start */
  mend(): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#meantUp || !(await this.#hasCrashed())) return;
      this.crashes += 1;
      await this.#kill();
      await this.#up();
    });
  }

  freeze(): void {
    this.#meantUp = false;
    this.#signal('SIGSTOP');
  }

  thaw(): void {
    this.#signal('SIGCONT');
    this.#meantUp = true;
  }

  async refuse(table: string, fault: TableFault): Promise<void> {
    const settings = Object.entries(TABLE_FAULTS[fault]).map(([name, value]) => `${name} = ${value}`);
    await this.#alter(`ALTER TABLE otel.${table} MODIFY SETTING ${settings.join(', ')}`);
  }

  async accept(table: string, fault: TableFault): Promise<void> {
    const names = Object.keys(TABLE_FAULTS[fault]).join(', ');
    await this.#alter(`ALTER TABLE otel.${table} RESET SETTING ${names}`);
  }

  /** JSONEachRow of one query, with numbers as numbers. */
  async rows<Row>(sql: string, msMax = 300_000): Promise<Row[]> {
    const url = `${this.url}/?output_format_json_quote_64bit_integers=0`;
    const signal = AbortSignal.timeout(msMax);
    const answer = await fetch(url, { method: 'POST', body: `${sql} FORMAT JSONEachRow`, signal });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${text.trim()}\n${sql}`);
    const lines = text.split('\n').filter((line) => line !== '');
    return lines.map((line) => JSON.parse(line) as Row);
  }

  async stop(): Promise<void> {
    this.thaw();
    await this.#service?.stop();
  }

  async #alter(sql: string): Promise<void> {
    const signal = AbortSignal.timeout(ALTER_MS_MAX);
    const answer = await fetch(this.url, { method: 'POST', body: sql, signal });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${text.trim()}\n${sql}`);
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#steps.then(step);
    this.#steps = done.catch(() => undefined);
    return done;
  }

  async #up(): Promise<void> {
    const service = await this.#start();
    this.#service = service;
    this.#meantUp = true;
    // Its pid may be somebody else's from then on.
    void service.ended.then(() => {
      if (this.#service === service) this.#service = undefined;
    });
  }

  async #kill(): Promise<void> {
    this.#meantUp = false;
    const service = this.#service;
    this.#signal('SIGKILL');
    await service?.ended;
  }

  /** One that dies answers 236 (ABORTED) to everything for a while; then nobody listens any more. */
  async #hasCrashed(): Promise<boolean> {
    try {
      await this.rows('SELECT 1 AS one', PING_MS_MAX);
      return false;
    } catch (error) {
      return this.#meantUp && !isTimeout(error);
    }
  }

  #signal(name: NodeJS.Signals): void {
    if (this.#service !== undefined) process.kill(this.#service.pid, name);
  }
}

/** A machine that is busy isn't a server that has died. */
function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}
