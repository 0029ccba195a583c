/** The small forms that servers write differently: types, defaults, codecs, settings, engines. */
import { literal } from '../clickhouse/quote.ts';
import type { ColumnDdl, EngineDdl } from './ddl.ts';
import { canonicalExpression } from './expression.ts';
import { spell, splitAt, tokenize } from './lexer.ts';

/** Other names of types, as standard SQL and older versions have them; case doesn't count for these. */
const TYPE_ALIASES: Readonly<Record<string, string>> = {
  BOOLEAN: 'Bool',
  BOOL: 'Bool',
  TINYINT: 'Int8',
  SMALLINT: 'Int16',
  INT: 'Int32',
  INTEGER: 'Int32',
  BIGINT: 'Int64',
  FLOAT: 'Float32',
  DOUBLE: 'Float64',
  TEXT: 'String',
  VARCHAR: 'String',
  BLOB: 'String',
  TIMESTAMP: 'DateTime',
};

export function typeOf(type: string): string {
  const tokens = tokenize(type).map((token) => {
    const alias = token.kind === 'word' ? TYPE_ALIASES[token.value.toUpperCase()] : undefined;
    return alias === undefined ? token : { ...token, value: alias };
  });
  return spell(tokens);
}

/** Codecs whose parameter is the size of a value when it isn't written. */
const BY_SIZE = ['Delta', 'DoubleDelta', 'Gorilla'];
/** Others of which the server shows a parameter of its own choice. */
const BY_CHOICE = [...BY_SIZE, 'T64', 'FPC', 'LZ4HC'];

/** Whether two codecs of a column are the same: servers show `Delta` of a DateTime64 as `Delta(8)`. */
export function sameCodec(declared: string | undefined, real: string | undefined, type: string): boolean {
  const [a, b] = [codecsIn(declared, type), codecsIn(real, type)];
  const nameOf = (codec: string) => codec.split('(')[0] ?? '';
  const isSame = (codec: string, other: string) =>
    codec === other ||
    (nameOf(codec) === nameOf(other) &&
      BY_CHOICE.includes(nameOf(codec)) &&
      (codec === nameOf(codec) || other === nameOf(other)));
  return a.length === b.length && a.every((codec, index) => isSame(codec, b[index] ?? ''));
}

function codecsIn(text: string | undefined, type: string): string[] {
  const bytes = sizeOf(type);
  const codecs = splitAt(tokenize(text ?? ''), ',').map((tokens) => {
    const codec = spell(tokens);
    if (codec === 'ZSTD') return 'ZSTD(1)';
    return BY_SIZE.includes(codec) && bytes !== undefined ? `${codec}(${bytes})` : codec;
  });
  return codecs.length === 1 && codecs[0] === 'Default' ? [] : codecs;
}

/** Of one value, in bytes; undefined for a type whose size doesn't stand in its name. */
function sizeOf(type: string): number | undefined {
  const [name = '', bits] = /^(?:U?Int|Float|DateTime|Date)(\d*)/.exec(type) ?? [];
  if (name === 'DateTime') return 4;
  if (name === 'DateTime64') return 8;
  if (name === 'Date') return 2;
  return bits === undefined || bits === '' ? undefined : Number(bits) / 8;
}

/** Old servers write the type of a column into its default: `CAST(7, 'UInt64')`. */
export function defaultOf({ default: value, type }: ColumnDdl): string {
  if (value === undefined) return '';
  const form = canonicalExpression(value.expression);
  const end = `, ${literal(type)})`;
  const isCast = form.startsWith('cast(') && form.endsWith(end);
  return `${value.kind} ${isCast ? form.slice('cast('.length, -end.length) : form}`;
}

/** `'x'` and `x`, `true` and `1` are the same value. */
export function settingOf(value: string): string {
  const bare = value.replace(/^'(.*)'$/s, '$1');
  if (/^true$/i.test(bare)) return '1';
  return /^false$/i.test(bare) ? '0' : bare;
}

/** Parameters of an engine: its place in Keeper, which only replicated ones have, and the others. */
export function engineArgs(
  { name, args }: EngineDdl,
  macros: ReadonlyMap<string, string>,
): { readonly path: readonly string[]; readonly args: readonly string[] } {
  const inPath = name.startsWith('Replicated') || name.startsWith('Shared') ? 2 : 0;
  const canonical = args.map((arg) => engineArg(arg));
  return {
    path: canonical.slice(0, inPath).map((arg) => expandMacros(arg, macros)),
    args: canonical.slice(inPath),
  };
}

/** A cluster's or table's name may be a word or a string. */
function engineArg(arg: string): string {
  const [, word] = /^'([A-Za-z_][A-Za-z0-9_]*)'$/.exec(arg) ?? [];
  return word ?? canonicalExpression(arg);
}

export function expandMacros(text: string, macros: ReadonlyMap<string, string>): string {
  return text.replace(/\{([A-Za-z_]+)\}/g, (whole, name: string) => macros.get(name) ?? whole);
}
