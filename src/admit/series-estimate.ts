/**
 * About how many different series were turned away: a HyperLogLog (Flajolet et al., 2007) of 1 KiB for each
 * half of the window, which a metric gets with the first point beyond its limit. The standard error is 1.04
 * / √1024 = 3.3 %, less below 2,500 (linear counting).
 */

const REGISTER_BITS = 10;
const REGISTERS = 2 ** REGISTER_BITS;
/** Corrects the mean for so many registers. */
const ALPHA = 0.7213 / (1 + 1.079 / REGISTERS);
/** Up to here the empty registers say more than the others. */
const LINEAR_MAX = 2.5 * REGISTERS;

export class SeriesEstimate {
  #current = new Uint8Array(REGISTERS);
  #previous = new Uint8Array(REGISTERS);

  /** @param low @param high the halves of the series' hash */
  add(low: number, high: number): void {
    const register = high >>> (32 - REGISTER_BITS);
    const rank = Math.clz32(low) + 1;
    if (rank > (this.#current[register] ?? 0)) this.#current[register] = rank;
  }

  /** Different series of both halves. */
  get count(): number {
    let sum = 0;
    let empty = 0;
    for (let i = 0; i < REGISTERS; i++) {
      const rank = Math.max(this.#current[i] ?? 0, this.#previous[i] ?? 0);
      sum += 2 ** -rank;
      if (rank === 0) empty += 1;
    }
    const raw = (ALPHA * REGISTERS * REGISTERS) / sum;
    if (raw > LINEAR_MAX || empty === 0) return Math.round(raw);
    return Math.round(REGISTERS * Math.log(REGISTERS / empty));
  }

  turn(): void {
    const unused = this.#previous;
    this.#previous = this.#current;
    this.#current = unused.fill(0);
  }
}
