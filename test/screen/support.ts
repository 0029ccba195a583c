/** Settings for the screen, what is a request at all, and messages in a form in which equal ones are equal. */
import { REQUESTS } from '../../proto/fields.ts';
import { loadSettings } from '../../src/config/load.ts';
import type { Rule } from '../../src/config/rules.ts';
import type { Settings } from '../../src/config/settings.ts';
import type { Signal } from '../../src/model/signal.ts';
import { DecodeError, type Message, type Value, decode } from '../oracle/decode.ts';

type ScreenSettings = Pick<Settings, 'limits' | 'rules' | 'receive'>;

const DEFAULTS = loadSettings({}).settings;

export function settingsOf(
  limits: Partial<Settings['limits']> = {},
  rules: readonly Rule[] = [],
  nestingMax: number = DEFAULTS.receive.nestingMax,
): ScreenSettings {
  return {
    limits: { ...DEFAULTS.limits, ...limits },
    rules,
    receive: { ...DEFAULTS.receive, nestingMax },
  };
}

/** Rules as an operator writes them. */
export function rulesOf(...rules: readonly object[]): readonly Rule[] {
  return loadSettings({ SLUICE_RULES: JSON.stringify(rules) }).settings.rules;
}

/** Whether these bytes are a request, by the oracle. */
export function isDecodable(signal: Signal, bytes: Uint8Array): boolean {
  try {
    decode(REQUESTS[signal], bytes);
    return true;
  } catch (error) {
    if (error instanceof DecodeError) return false;
    throw error;
  }
}

/** Fields outside of oneofs for which absent and empty are the same. */
const EMPTY_IS_ABSENT = new Set([
  'key',
  'value',
  'droppedAttributesCount',
  'droppedEventsCount',
  'droppedLinksCount',
  'timeUnixNano',
  'startTimeUnixNano',
  'endTimeUnixNano',
  'observedTimeUnixNano',
  'attributes',
  'filteredAttributes',
]);

function isEmpty(name: string, value: Value): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (!EMPTY_IS_ABSENT.has(name)) return false;
  return (
    value === 0 ||
    value === 0n ||
    value === '' ||
    (typeof value === 'object' && Object.keys(value).length === 0)
  );
}

export function canonical(value: Value): Value {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object') return value;
  const entries = Object.entries(value as Message).map(([name, inner]) => [name, canonical(inner)] as const);
  return Object.fromEntries(entries.filter(([name, inner]) => !isEmpty(name, inner))) as Message;
}
