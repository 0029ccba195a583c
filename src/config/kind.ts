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

/** A list as YAML has it, or as JSON where it is text; what is neither is for the schema to refuse. */
export function listOf(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  if (value.trim() === '') return [];
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
