/**
 * How what can be taken is shared out when it isn't enough: weighted max-min fairness. Everybody gets what he
 * asks for up to one level, which is the same for all in proportion to their weights and as high as it can
 * be; so nobody gets less because another one asks for more.
 *
 * Signals may have priorities: then each class of signals has a small part for certain, and the rest goes to
 * the classes one after the other; within a class it is shared out as above. Pure.
 */
import { SIGNALS, type Signal } from '../model/signal.ts';

export interface Claim {
  readonly demand: number;
  /** Above 0. */
  readonly weight: number;
}

/** Demand by signal. */
export type SignalDemand = Readonly<Partial<Record<Signal, number>>>;

/** Signals that are slowed together. */
export interface SignalClass {
  readonly signals: readonly Signal[];
  /** Of all tenants. */
  readonly demand: number;
  /** What the class gets of the whole. */
  readonly capacity: number;
  /** Nobody gets more than this by weight; Infinity where there is enough for all. */
  readonly level: number;
}

/** Of the whole, for each class that asks for it. */
const FLOOR = 0.05;

/** In the order of the claims; what each gets. */
export function fairShares(claims: readonly Claim[], capacity: number): number[] {
  const level = fairLevel(claims, capacity);
  return claims.map(({ demand, weight }) => Math.min(demand, level * weight));
}

/** Up to which level, by weight, claims are met. Infinity when all are met whole. */
export function fairLevel(claims: readonly Claim[], capacity: number): number {
  const ordered = [...claims].sort((one, other) => one.demand / one.weight - other.demand / other.weight);
  // Summed up from the end, so that the last weight is exact.
  const weights = new Float64Array(ordered.length + 1);
  for (let i = ordered.length - 1; i >= 0; i--)
    weights[i] = (weights[i + 1] ?? 0) + (ordered[i]?.weight ?? 0);
  let rest = Math.max(0, capacity);
  for (const [i, { demand, weight }] of ordered.entries()) {
    const level = rest / (weights[i] ?? weight);
    if (demand > level * weight) return level;
    rest = Math.max(0, rest - demand);
  }
  return Number.POSITIVE_INFINITY;
}

/**
 * @param demands of each tenant
 * @param slowFirst the first one is slowed first; signals that aren't in it are slowed last, together
 * @returns one class per signal in `slowFirst` and one of the others, in the order in which they are served
 */
export function shareClasses(
  demands: ReadonlyMap<string, SignalDemand>,
  weightOf: (tenant: string) => number,
  capacity: number,
  slowFirst: readonly Signal[],
): SignalClass[] {
  const others = SIGNALS.filter((signal) => !slowFirst.includes(signal));
  const ordered = [others, ...[...new Set(slowFirst)].reverse().map((signal) => [signal])];
  const classes = ordered
    .filter((signals) => signals.length > 0)
    .map((signals) => ({ signals, claims: claimsOf(demands, weightOf, signals) }))
    .map(({ signals, claims }) => ({ signals, claims, demand: sum(claims.map((claim) => claim.demand)) }));
  const floors = classes.map(({ demand }) => Math.min(demand, capacity * FLOOR));
  let rest = capacity - sum(floors);
  return classes.map(({ signals, claims, demand }, i) => {
    const floor = floors[i] ?? 0;
    const more = Math.min(demand - floor, rest);
    rest -= more;
    // A class whose demand is met has no level, whatever the last digit of the sums says.
    const isMet = more === demand - floor;
    const level = isMet ? Number.POSITIVE_INFINITY : fairLevel(claims, floor + more);
    return { signals, demand, capacity: floor + more, level };
  });
}

export function demandOf(demand: SignalDemand, signals: readonly Signal[]): number {
  let total = 0;
  for (const signal of signals) total += demand[signal] ?? 0;
  return total;
}

function claimsOf(
  demands: ReadonlyMap<string, SignalDemand>,
  weightOf: (tenant: string) => number,
  signals: readonly Signal[],
): Claim[] {
  return [...demands].map(([tenant, by]) => ({ demand: demandOf(by, signals), weight: weightOf(tenant) }));
}

function sum(figures: readonly number[]): number {
  return figures.reduce((total, figure) => total + figure, 0);
}
