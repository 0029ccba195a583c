/** All clients together, at a pace at which the wanted records are acknowledged in the time that there is. */
import { sleep } from '../../../src/base/clock.ts';
import { Client } from './client.ts';
import { Ledger } from './ledger.ts';
import { Tally } from './tally.ts';
import type { World } from './world.ts';

export interface LoadOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly records: number;
  readonly clients: number;
}

/** Requests that are never acknowledged, and calms, cost some of the time. */
const AHEAD = 1.06;
const WAIT_MS = 5;
/** The load ends then at the latest, wanted records or not. */
const SECONDS_FACTOR_MAX = 3;

export class Load {
  readonly ledger = new Ledger();
  readonly tally = new Tally();
  readonly clients: readonly Client[];
  readonly #options: LoadOptions;
  #begun = 0;
  #stopped = false;

  constructor(world: World, options: LoadOptions) {
    this.#options = options;
    const { ledger, tally } = this;
    this.clients = Array.from({ length: options.clients }, (_, number) => {
      const turn = (records: number) => this.#turn(records);
      return new Client({ number, seed: options.seed, fronts: world.fronts, ledger, tally, turn });
    });
  }

  /** Whether every wanted record is acknowledged and the time is over. */
  get done(): boolean {
    const { seconds, records } = this.#options;
    const { nowMs } = this.tally;
    const enough = nowMs >= seconds * 1000 && this.ledger.acknowledgedRecords >= records;
    return enough || nowMs >= seconds * 1000 * SECONDS_FACTOR_MAX;
  }

  /** Resolves when every client is done with its last request. */
  async run(): Promise<void> {
    this.tally.start();
    await Promise.all(this.clients.map((client) => client.run()));
  }

  /** No client begins another request. */
  stop(): void {
    this.#stopped = true;
  }

  async #turn(records: number): Promise<boolean> {
    const { seconds, records: wanted } = this.#options;
    for (;;) {
      if (this.#stopped) return false;
      const due = (this.tally.nowMs / (seconds * 1000)) * wanted * AHEAD;
      if (this.#begun < due) break;
      await sleep(WAIT_MS);
    }
    this.#begun += records;
    return true;
  }
}
