/**
 * The types that columns of a Native block name, as far as our blocks use them or may come to. Enters: the
 * text of a type. Leaves: what has to be known to find the values in the bytes.
 */

/**
 * Bytes that can't be read as a Native block. No fault of the world, and none of ours: whoever meets it
 * leaves the block whole.
 */
export class BlockError extends Error {
  /** `unknown` may be a good block all the same, with a type of which nothing is known here. */
  readonly kind: 'malformed' | 'unknown';

  constructor(kind: BlockError['kind'], message: string) {
    super(message);
    this.name = 'BlockError';
    this.kind = kind;
  }
}

/** How a value of fixed size is shown. */
export type FixedKind = 'int' | 'uint' | 'float' | 'bool' | 'time' | 'uuid' | 'bytes';

export type ColumnType =
  | { readonly kind: 'fixed'; readonly as: FixedKind; readonly bytes: number; readonly digits: number }
  | { readonly kind: 'string' }
  /** Of strings. */
  | { readonly kind: 'low' }
  | { readonly kind: 'array'; readonly of: ColumnType }
  | { readonly kind: 'map'; readonly key: ColumnType; readonly value: ColumnType }
  | { readonly kind: 'tuple'; readonly of: readonly ColumnType[] };

/** Types inside each other; ours stand three deep. */
const NESTING_MAX = 8;
const TYPE_LENGTH_MAX = 1_000;
const FIXED_STRING_BYTES_MAX = 1 << 20;

function fixed(as: FixedKind, bytes: number, digits = 0): ColumnType {
  return { kind: 'fixed', as, bytes, digits };
}

const SIMPLE: ReadonlyMap<string, ColumnType> = new Map([
  ['String', { kind: 'string' }],
  ['Bool', fixed('bool', 1)],
  ['UUID', fixed('uuid', 16)],
  ['Float32', fixed('float', 4)],
  ['Float64', fixed('float', 8)],
  ...[8, 16, 32, 64].flatMap((bits): [string, ColumnType][] => [
    [`Int${bits}`, fixed('int', bits / 8)],
    [`UInt${bits}`, fixed('uint', bits / 8)],
  ]),
]);

/** @throws BlockError */
export function parseType(text: string): ColumnType {
  if (text.length > TYPE_LENGTH_MAX) throw unknown(`a type of ${text.length} characters`);
  return typeOf(text.trim(), 0);
}

function typeOf(text: string, depth: number): ColumnType {
  if (depth > NESTING_MAX) throw unknown(`more than ${NESTING_MAX} types inside each other`);
  const simple = SIMPLE.get(text);
  if (simple !== undefined) return simple;
  const [name, parameters] = takeApart(text);
  const of = (index: number) => typeOf(parameters[index] ?? '', depth + 1);
  switch (`${name} ${parameters.length}`) {
    case 'LowCardinality 1':
      if (parameters[0] === 'String') return { kind: 'low' };
      break;
    case 'Array 1':
      return { kind: 'array', of: of(0) };
    case 'Map 2':
      return { kind: 'map', key: of(0), value: of(1) };
    case 'DateTime64 1':
      if (/^[0-9]$/.test(parameters[0] ?? '')) return fixed('time', 8, Number(parameters[0]));
      break;
    case 'FixedString 1':
      return fixed('bytes', fixedBytes(parameters[0] ?? ''));
    default:
      if (name === 'Tuple' && parameters.length > 0) {
        return { kind: 'tuple', of: parameters.map((_, index) => of(index)) };
      }
  }
  throw unknown(`the type ${text.slice(0, 100)}`);
}

function fixedBytes(text: string): number {
  const bytes = /^[0-9]{1,7}$/.test(text) ? Number(text) : 0;
  if (bytes === 0 || bytes > FIXED_STRING_BYTES_MAX) throw unknown(`FixedString(${text})`);
  return bytes;
}

/** `Name(a, b(c, d))` -> Name and its parameters, split at the commas of the first level. */
function takeApart(text: string): [name: string, parameters: readonly string[]] {
  const open = text.indexOf('(');
  if (open < 0 || !text.endsWith(')')) return [text, []];
  const parameters: string[] = [];
  let depth = 0;
  let start = open + 1;
  for (let at = start; at < text.length - 1; at++) {
    const char = text[at];
    if (char === '(') depth++;
    else if (char === ')') depth--;
    else if (char === ',' && depth === 0) {
      parameters.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  parameters.push(text.slice(start, -1).trim());
  return [text.slice(0, open), parameters];
}

function unknown(what: string): BlockError {
  return new BlockError('unknown', `${what} is not known here`);
}
