/** A ClickHouse server of the storm, one a shard: killed and started again on its data, frozen, "full". */
import { startEmbeddedClickHouse } from '../../../src/embedded/clickhouse.ts';
import type { EmbeddedService } from '../../../src/embedded/service.ts';
import { clusterXml, macrosXml } from '../../../src/embedded/shards.ts';
import { freePort, silent } from '../../support/services.ts';

export const CLUSTER = 'main';
const MEMORY_BYTES_MAX = 3 * 2 ** 30;
const ALTER_MS_MAX = 5_000;

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

  /** @param places of all shards, in their order; this one's is the `shard`-th */
  constructor(places: readonly Place[], shard: number) {
    this.place = places[shard] as Place;
    this.url = `http://127.0.0.1:${this.place.httpPort}`;
    const ports = places.map(({ tcpPort }) => tcpPort);
    const configXml = clusterXml(CLUSTER, ports) + macrosXml(shard);
    const options = { ...this.place, configXml, memoryBytesMax: MEMORY_BYTES_MAX, logger: silent };
    this.#start = () => startEmbeddedClickHouse(options);
  }

  async start(): Promise<void> {
    this.#service = await this.#start();
  }

  async kill(): Promise<void> {
    this.#signal('SIGKILL');
    await this.#service?.ended;
  }

  freeze(): void {
    this.#signal('SIGSTOP');
  }

  thaw(): void {
    this.#signal('SIGCONT');
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
    await this.#service?.stop();
  }

  async #alter(sql: string): Promise<void> {
    const signal = AbortSignal.timeout(ALTER_MS_MAX);
    const answer = await fetch(this.url, { method: 'POST', body: sql, signal });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${text.trim()}\n${sql}`);
  }

  #signal(name: NodeJS.Signals): void {
    if (this.#service !== undefined) process.kill(this.#service.pid, name);
  }
}
