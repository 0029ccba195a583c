/** Numbers among the arguments of claims. */
import { InvalidArgumentError } from 'commander';

/** Above 0. @throws InvalidArgumentError, for commander to tell */
export function numberOf(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('wanted is a number above 0.');
  return value;
}
