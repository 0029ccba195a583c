/** Who sends and who reads in the chaos tests: rows without a pause, and a look at every answer. */
import { sleep } from '../../src/base/clock.ts';
import { messageOf } from '../../src/base/errors.ts';
import type { FarmHost } from '../support/farm.ts';
import { eventually } from '../support/services.ts';
import type { Pipeline } from './pipeline.ts';
import { TABLE } from './rows.ts';

const ROWS_PER_REQUEST = 10;
const REQUEST_EVERY_MS = 20;

/** Rows without a pause, from now on. */
export class Load {
  readonly #ending = new AbortController();
  readonly #ended: Promise<void>;

  constructor(pipeline: Pipeline) {
    this.#ended = this.#run(pipeline);
  }

  /** Resolves when the last request was answered. @throws what a request was refused with */
  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#ended;
  }

  async #run(pipeline: Pipeline): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      await pipeline.send(ROWS_PER_REQUEST);
      await sleep(REQUEST_EVERY_MS, signal);
    }
  }
}

const LOOK_EVERY_MS = 100;
const LOOK_MS_MAX = 10_000;

/** Asks the Distributed table for all rows, host by host, over and over, and notes every wrong answer. */
export class Reader {
  /** While a replica is being filled a row may be missing in an answer; none may be there twice. */
  lenient = false;
  readonly mistakes: string[] = [];
  /** Queries that a host could not answer: the last one's reason. */
  refusal = '';
  #looks = 0;
  readonly #pipeline: Pipeline;
  #hosts: readonly FarmHost[];
  readonly #ending = new AbortController();
  readonly #ended: Promise<void>;

  constructor(pipeline: Pipeline, hosts: readonly FarmHost[]) {
    this.#pipeline = pipeline;
    this.#hosts = hosts;
    this.#ended = this.#run();
  }

  leave(host: FarmHost): void {
    this.#hosts = this.#hosts.filter((other) => other !== host);
  }

  join(host: FarmHost): void {
    this.#hosts = [...this.#hosts, host];
  }

  /** Resolves after so many further answers. */
  async looksMore(count: number): Promise<void> {
    const wanted = this.#looks + count;
    await eventually(`the reader has answers (${this.refusal})`, () => this.#looks >= wanted, 30_000);
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    for (let turn = 0; !signal.aborted; turn++) {
      const host = this.#hosts[turn % this.#hosts.length];
      if (host !== undefined) await this.#look(host);
      await sleep(LOOK_EVERY_MS, signal);
    }
  }

  async #look(host: FarmHost): Promise<void> {
    const finished = this.#pipeline.finished.length;
    const lenient = this.lenient;
    const ids = await idsIn(host).catch((error: unknown) => {
      this.refusal = messageOf(error);
      return undefined;
    });
    if (ids === undefined) return;
    this.#looks += 1;
    const found = new Set(ids);
    const about = `of ${ids.length} rows on ${host.name}`;
    if (found.size !== ids.length) this.mistakes.push(`${ids.length - found.size} ${about} are there twice`);
    const invented = ids.filter((id) => id > this.#pipeline.drawn());
    if (invented.length > 0) this.mistakes.push(`${invented.length} ${about} were never sent`);
    const missing = this.#pipeline.finished.slice(0, finished).filter((id) => !found.has(id));
    const strict = !lenient && !this.lenient;
    if (strict && missing.length > 0)
      this.mistakes.push(`${missing.length} finished rows are missing, ${about}`);
  }
}

async function idsIn({ url }: FarmHost): Promise<number[]> {
  const body = `SELECT Id FROM otel.${TABLE}`;
  const answer = await fetch(`${url}/?wait_end_of_query=1`, {
    method: 'POST',
    body,
    signal: AbortSignal.timeout(LOOK_MS_MAX),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
}
