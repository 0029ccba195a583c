/** What one way of doing something takes more than another, by rounds in which both were measured. */
import type { Figure } from '../claim.ts';
import { median } from './numbers.ts';

const NONE = { better: 'less', must: undefined, aim: undefined } as const;

/**
 * The median of the rounds, and how far they differ: that says how much a figure is worth.
 * @param rounds what both took in each of them, in any unit
 */
export function comparedFigures(
  name: string,
  rounds: readonly (readonly [cost: number, base: number])[],
  must: number,
): Figure[] {
  const percents = rounds.map(([cost, base]) => (cost / base - 1) * 100);
  const spread = Math.max(...percents) - Math.min(...percents);
  return [
    { ...NONE, name: `${name}, between rounds`, value: spread, unit: 'percentage points' },
    { ...NONE, name, value: median(percents), unit: '% more', must },
  ];
}
