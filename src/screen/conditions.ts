/**
 * Conditions of rules, compiled: each is asked of the scan of what it is about, compares bytes where it can
 * and decodes a text only for a regular expression.
 */
import { KINDS, SEVERITIES, STATUSES } from '../config/rule-fields.ts';
import { tokenAt } from '../config/patterns.ts';
import type { Condition } from '../config/rules.ts';
import type { Signal } from '../model/signal.ts';
import type { Scan } from './scan.ts';
import { BOOL, DOUBLE, INT, KIND, NAME, SEVERITY, SEVERITY_TEXT, STRING, TITLE } from './shapes.ts';
import { textWithin } from './texts.ts';
import { MEMBER, MEMBER_AT, MEMBER_END, numberOf, readAny } from './values.ts';
import { sameBytes } from './wire.ts';

/** What a condition is about: it is decided once for each of these. */
export const OF_RESOURCE = 0;
export const OF_SCOPE = 1;
export const OF_METRIC = 2;
export const OF_RECORD = 3;

export type Holds = (scan: Scan) => boolean;

export interface Test {
  readonly level: number;
  /** The attribute whose value the scan has to note, in `slot`. */
  readonly key: string | undefined;
  /** The fields that the scan has to note. */
  readonly roles: readonly number[];
  /** Whether it can hold of what isn't there. */
  readonly whenAbsent: boolean;
  /** Of a name: by first byte, not 0 where it may hold. */
  readonly starts?: Uint8Array | undefined;
  readonly holds: (slot: number) => Holds;
}

const RESOURCE_KEY = 'resource.';
const ATTRIBUTE_KEY = 'attributes.';

export function compileCondition(condition: Condition, signal: Signal): Test {
  const { field } = condition;
  if (field.startsWith(RESOURCE_KEY))
    return ofValue(condition, OF_RESOURCE, field.slice(RESOURCE_KEY.length));
  if (field.startsWith(ATTRIBUTE_KEY))
    return ofValue(condition, OF_RECORD, field.slice(ATTRIBUTE_KEY.length));
  const isMetric = signal === 'metrics';
  switch (field) {
    case 'scope.name':
      return ofText(condition, OF_SCOPE);
    case 'name':
      return ofText(condition, isMetric ? OF_METRIC : OF_RECORD);
    case 'kind':
      if (isMetric) return ofMetricKind(condition);
      return signal === 'traces'
        ? ofNumber(condition, KINDS, (scan) => scan.kind, [KIND])
        : absent(condition);
    case 'status':
      return signal === 'traces'
        ? ofNumber(condition, STATUSES, (scan) => scan.status, [])
        : absent(condition);
    case 'severity':
      if (signal !== 'logs') return absent(condition);
      return ofNumber(condition, SEVERITIES, severityOf, [SEVERITY, SEVERITY_TEXT]);
    default:
      return signal === 'logs' ? ofBody(condition) : absent(condition);
  }
}

/** The signal has no such field. */
function absent(condition: Condition): Test {
  const holds = isOnlyAbsence(condition);
  return { level: OF_RESOURCE, key: undefined, roles: [], whenAbsent: holds, holds: () => () => holds };
}

function isOnlyAbsence({ field: _, exists, ...others }: Condition): boolean {
  return exists === false && Object.values(others).every((value) => value === undefined);
}

function ofText(condition: Condition, level: number): Test {
  const text = textTest(condition);
  const whenAbsent = isOnlyAbsence(condition);
  const holds: Holds = ({ bytes, nameAt, nameEnd }) =>
    nameEnd === nameAt ? whenAbsent : text(bytes, nameAt, nameEnd);
  const starts = startsOf(condition);
  return { level, key: undefined, roles: [NAME, TITLE], whenAbsent, starts, holds: () => holds };
}

/** The first bytes of the texts that it may hold of, undefined for any. */
function startsOf({ equals, oneOf, startsWith, matches }: Condition): Uint8Array | undefined {
  const prefixes = [equals, startsWith, matches && prefixOf(matches)].filter(Boolean).map((text) => [text]);
  const [allowed] = [...prefixes, ...(oneOf === undefined ? [] : [oneOf])];
  if (allowed === undefined) return undefined;
  const starts = new Uint8Array(256);
  for (const text of allowed) starts[Buffer.from(String(text))[0] ?? 0] = 1;
  return starts;
}

function ofMetricKind(condition: Condition): Test {
  const { equals, oneOf, exists, below, above } = condition;
  const isPossible = exists !== false && below === undefined && above === undefined;
  const holds: Holds = ({ metricKind }) =>
    isPossible &&
    (equals === undefined || equals === metricKind) &&
    (oneOf === undefined || oneOf.includes(metricKind));
  return { level: OF_METRIC, key: undefined, roles: [], whenAbsent: false, holds: () => holds };
}

/** A field whose numbers have names. */
function ofNumber(
  condition: Condition,
  names: ReadonlyMap<string, readonly number[]>,
  read: (scan: Scan) => number,
  roles: readonly number[],
): Test {
  const { equals, oneOf, exists, below = Infinity, above = -Infinity } = condition;
  const numbers = (value: unknown) =>
    typeof value === 'string' ? (names.get(value) ?? []) : [Number(value)];
  const wanted = equals === undefined ? undefined : new Set(numbers(equals));
  const allowed = oneOf === undefined ? undefined : new Set(oneOf.flatMap(numbers));
  const holds: Holds = (scan) => {
    const value = read(scan);
    if (exists !== undefined && exists !== (value !== 0)) return false;
    if (wanted !== undefined && !wanted.has(value)) return false;
    if (allowed !== undefined && !allowed.has(value)) return false;
    return value < below && value > above;
  };
  return { level: OF_RECORD, key: undefined, roles, whenAbsent: true, holds: () => holds };
}

/** The number, or what the text says where there is none. */
function severityOf(scan: Scan): number {
  if (scan.severity !== 0 || scan.severityTextEnd === scan.severityTextAt) return scan.severity;
  const text = scan.bytes.toString(
    'latin1',
    scan.severityTextAt,
    Math.min(scan.severityTextEnd, scan.severityTextAt + 8),
  );
  return SEVERITIES.get(text.toLowerCase())?.[0] ?? 0;
}

function ofValue(condition: Condition, level: number, key: string): Test {
  const value = valueTest(condition);
  const whenAbsent = isOnlyAbsence(condition);
  const holds = (slot: number): Holds => {
    return ({ bytes, slotAt, slotEnd }) => {
      const at = slotAt[slot] as number;
      return at < 0 ? whenAbsent : value(bytes, at, slotEnd[slot] as number);
    };
  };
  return { level, key, roles: [], whenAbsent, holds };
}

function ofBody(condition: Condition): Test {
  const value = valueTest(condition);
  const whenAbsent = isOnlyAbsence(condition);
  const holds: Holds = ({ bytes, bodyAt, bodyEnd }) =>
    bodyAt < 0 ? whenAbsent : value(bytes, bodyAt, bodyEnd);
  return { level: OF_RECORD, key: undefined, roles: [], whenAbsent, holds: () => holds };
}

type BytesTest = (bytes: Buffer, start: number, end: number) => boolean;

/** Of the AnyValue at [start, end). */
function valueTest(condition: Condition): BytesTest {
  const { equals, oneOf, exists, startsWith, matches, below, above } = condition;
  if (exists === false) return () => false;
  if ([equals, oneOf, startsWith, matches, below, above].every((value) => value === undefined))
    return () => true;
  const text = textTest(condition);
  const number = numberTest(condition);
  const isBoolean = equals === true || equals === false;
  const onlyEquals = [oneOf, startsWith, matches, below, above].every((value) => value === undefined);
  return (bytes, start, end) => {
    readAny(bytes, start, end);
    switch (MEMBER) {
      case STRING:
        return text(bytes, MEMBER_AT, MEMBER_END);
      case BOOL:
        return isBoolean && onlyEquals && (numberOf(bytes, BOOL, MEMBER_AT, MEMBER_END) !== 0) === equals;
      case INT:
      case DOUBLE:
        return number(numberOf(bytes, MEMBER, MEMBER_AT, MEMBER_END));
      default:
        return false;
    }
  };
}

function numberTest({ equals, oneOf, startsWith, matches, below, above }: Condition): (n: number) => boolean {
  if (startsWith !== undefined || matches !== undefined) return () => false;
  const allowed = oneOf === undefined ? undefined : new Set<unknown>(oneOf);
  return (n) =>
    (equals === undefined || equals === n) &&
    (allowed === undefined || allowed.has(n)) &&
    (below === undefined || n < below) &&
    (above === undefined || n > above);
}

function textTest({ equals, oneOf, startsWith, matches, below, above, exists }: Condition): BytesTest {
  const tests: BytesTest[] = [];
  const isImpossible = below !== undefined || above !== undefined || exists === false;
  if (isImpossible || (equals !== undefined && typeof equals !== 'string')) return () => false;
  if (equals !== undefined) tests.push(isOneOf([equals]));
  if (oneOf !== undefined) tests.push(isOneOf(oneOf.filter((value) => typeof value === 'string')));
  if (startsWith !== undefined) tests.push(isPrefix(startsWith));
  if (matches !== undefined) {
    const pattern = new RegExp(matches);
    const prefix = prefixOf(matches);
    if (prefix !== '') tests.push(isPrefix(prefix));
    tests.push((bytes, start, end) => pattern.test(textWithin(bytes, start, end)));
  }
  const [only] = tests;
  if (tests.length === 1 && only !== undefined) return only;
  return (bytes, start, end) => tests.every((test) => test(bytes, start, end));
}

function isOneOf(texts: readonly string[]): BytesTest {
  const byLength = new Map<number, Buffer[]>();
  for (const text of texts.map((value) => Buffer.from(value))) {
    byLength.set(text.length, [...(byLength.get(text.length) ?? []), text]);
  }
  const [single] = byLength.size === 1 ? [...byLength.values()] : [];
  if (single?.length === 1) {
    const wanted = single[0] as Buffer;
    return (bytes, start, end) => end - start === wanted.length && sameBytes(bytes, start, wanted);
  }
  return (bytes, start, end) => {
    for (const text of byLength.get(end - start) ?? []) if (sameBytes(bytes, start, text)) return true;
    return false;
  };
}

function isPrefix(text: string): BytesTest {
  const wanted = Buffer.from(text);
  return (bytes, start, end) => end - start >= wanted.length && sameBytes(bytes, start, wanted);
}

/** What every text begins with that the pattern matches, as far as that is plain: decoding is dear. */
export function prefixOf(source: string): string {
  let prefix = '';
  let isPlain = source.startsWith('^');
  for (let i = 1; i < source.length; ) {
    const [token, kind] = tokenAt(source, i);
    i += token.length;
    if (kind === 'alternative') return '';
    if (isPlain && kind === 'quantifier') prefix = prefix.slice(0, -1);
    isPlain &&= kind === 'other' && /^(?:[\w /:;,=@#%&<>-]|\\[./-])$/.test(token);
    if (isPlain) prefix += token.at(-1);
  }
  return prefix;
}
