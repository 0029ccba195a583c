/** What a kind of value is (kinds.ts has them). */
import type { z } from 'zod';

/** A schema reads text (environment) and YAML values alike; `wanted` completes the sentence "wanted: …". */
export interface Kind<T> {
  readonly schema: z.ZodType<T>;
  readonly wanted: string;
  /** The value as one would write it in a setting. */
  readonly show: (value: T) => string;
  /** Whether values may hold a secret: one that is refused is not repeated then. */
  readonly holdsSecret?: true;
}
