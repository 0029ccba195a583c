/** Names as statements show them, and settings as servers show them. */
import { quoteName } from '../clickhouse/quote.ts';

export const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** A name, in backquotes only where it needs them: statements are shown to people. */
export function quote(name: string): string {
  return IDENTIFIER.test(name) ? name : quoteName(name);
}

/** The settings at the end of a table's definition as ClickHouse shows it, name and value as written. */
export function settingsIn(definition: string): ReadonlyMap<string, string> {
  const [, list = ''] = /^.* SETTINGS (.*)$/s.exec(definition) ?? [];
  const settings = list.matchAll(/([A-Za-z0-9_]+) = ('(?:[^'\\]|\\.)*'|[^,\s]+)/g);
  return new Map([...settings].map(([, name = '', value = '']) => [name, value]));
}
