/**
 * What `sluice config print` shows: every setting with its value, secrets hidden, and where the value came
 * from.
 */
import type { Loaded } from './load.ts';

export interface PrintedSetting {
  readonly key: string;
  readonly env: string;
  readonly value: string;
  readonly origin: string;
}

export function printSettings(loaded: Loaded): PrintedSetting[] {
  return loaded.list.map(({ definition, value, origin }) => ({
    key: definition.key,
    env: definition.env,
    value: definition.kind.show(value),
    origin,
  }));
}
