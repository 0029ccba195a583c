/** How many per second, as the mean of the last full seconds. Costs one addition per call. */
const WINDOW_SECONDS = 10;

export class Rate {
  readonly #counts = new Float64Array(WINDOW_SECONDS + 1);
  #second = 0;

  /** @param second whole seconds of any clock that only goes forward */
  add(count: number, second: number): void {
    this.#advance(second);
    const slot = second % this.#counts.length;
    this.#counts[slot] = (this.#counts[slot] ?? 0) + count;
  }

  /** Without the second that is still running. */
  perSecond(second: number): number {
    this.#advance(second);
    let sum = 0;
    for (let i = 0; i < this.#counts.length; i++)
      if (i !== second % this.#counts.length) sum += this.#counts[i] ?? 0;
    return sum / WINDOW_SECONDS;
  }

  #advance(second: number): void {
    const from = Math.max(this.#second + 1, second - this.#counts.length + 1);
    for (let s = from; s <= second; s++) this.#counts[s % this.#counts.length] = 0;
    this.#second = Math.max(this.#second, second);
  }
}
