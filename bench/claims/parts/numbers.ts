/** Numbers among the arguments of claims, and of several measured ones the middle. */
import { InvalidArgumentError } from 'commander';

/** Above 0. @throws InvalidArgumentError, for commander to tell */
export function numberOf(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('wanted is a number above 0.');
  return value;
}

/** The one in the middle; of an even number of values the upper of both. NaN for none. */
export function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[values.length >> 1] ?? Number.NaN;
}
