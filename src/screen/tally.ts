/** What a walk counts: numbers by limit and by rule, turned into names at the end. */
import { LIMITS, LIMIT_REASONS, type Limit, type RejectReason } from '../model/outcome.ts';

export class Tally {
  /** By limit. */
  readonly rejected: Int32Array = new Int32Array(LIMITS.length);
  readonly trimmed: Int32Array = new Int32Array(LIMITS.length);
  readonly over: Int32Array = new Int32Array(LIMITS.length);
  /** By rule. */
  readonly filtered: Int32Array;
  readonly redacted: Int32Array;

  constructor(rules: number) {
    this.filtered = new Int32Array(rules);
    this.redacted = new Int32Array(rules);
  }

  countRule(counts: Int32Array, index: number): void {
    (counts[index] as number)++;
  }

  /** One more of each limit whose bit is set. */
  countEach(counts: Int32Array, bits: number): void {
    for (let i = 0; i < counts.length; i++) if ((bits & (1 << i)) !== 0) (counts[i] as number)++;
  }

  /** One more of the first limit whose bit is set. */
  countFirst(counts: Int32Array, bits: number): void {
    (counts[31 - Math.clz32(bits & -bits)] as number)++;
  }
}

export function byLimit(counts: Int32Array): Map<Limit, number> {
  return new Map(LIMITS.map((limit, i) => [limit, counts[i] ?? 0] as const).filter(([, count]) => count > 0));
}

export function byReason(counts: Int32Array): Map<RejectReason, number> {
  const reasons = new Map<RejectReason, number>();
  for (const [limit, count] of byLimit(counts)) reasons.set(LIMIT_REASONS[limit], count);
  return reasons;
}
