/** What is known of the time series of one metric of one tenant. */
import { SeriesEstimate } from './series-estimate.ts';
import { SeriesFilter } from './series-filter.ts';
import { type SeriesLog, hexOf } from './series-log.ts';

/** Of a metric that sends names of any length. */
const NAME_LENGTH_MAX = 256;

export class SeriesMetric {
  readonly tenant: string;
  /** The hash of its name, signed. */
  readonly hash: number;
  readonly filter = new SeriesFilter();
  /** While other gateways are told of it. */
  log: SeriesLog | undefined;
  #seenTurn: number;
  #turn: number;
  #name: string | undefined;
  #estimate: SeriesEstimate | undefined;
  #pointsBeyond = 0;
  #pointsBeyondBefore = 0;

  constructor(tenant: string, hash: number, turn: number) {
    this.tenant = tenant;
    this.hash = hash;
    this.#seenTurn = turn;
    this.#turn = turn;
  }

  /** The last half of the window with a point of it, by its number. */
  get seenTurn(): number {
    return this.#seenTurn;
  }

  get hasName(): boolean {
    return this.#name !== undefined;
  }

  /** Its hash while nobody has said it. */
  get name(): string {
    return this.#name ?? `#${hexOf(this.hash)}`;
  }

  set name(name: string) {
    // Copied, since a part of a string keeps all of it in memory.
    const isShort = name.length <= NAME_LENGTH_MAX;
    this.#name = isShort ? name : Buffer.from(name.slice(0, NAME_LENGTH_MAX)).toString();
  }

  /** Of both halves of the window. */
  get pointsBeyond(): number {
    return this.#pointsBeyond + this.#pointsBeyondBefore;
  }

  /** About how many different series were sent within the window; exact while there were none beyond. */
  get offered(): number {
    return this.filter.count + (this.#estimate?.count ?? 0);
  }

  /** A point of a series beyond the limit; the halves of its hash. */
  noteBeyond(low: number, high: number): void {
    this.#pointsBeyond += 1;
    this.#estimate ??= new SeriesEstimate();
    this.#estimate.add(low, high);
  }

  /** A point of it has come. */
  see(turn: number): void {
    this.#seenTurn = turn;
    this.turnTo(turn);
  }

  /** Forgets what is older than the half before this one. */
  turnTo(turn: number): void {
    // Twice is as good as more often: then nothing is left.
    for (let missed = Math.min(2, turn - this.#turn); missed > 0; missed--) this.#forget();
    this.#turn = turn;
  }

  #forget(): void {
    this.filter.turn();
    this.#estimate?.turn();
    this.#pointsBeyondBefore = this.#pointsBeyond;
    this.#pointsBeyond = 0;
    if (this.pointsBeyond === 0) this.#estimate = undefined;
  }
}
