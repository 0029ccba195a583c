/**
 * AnyValue as text, in the straightforward way (SCHEMA: Values): strings as they are, booleans and integers
 * as one expects, doubles in the shortest form that reads back, bytes as base64, arrays and maps as JSON,
 * nothing as ''. Everything is a binary string, as the decoder gives them.
 */
import type { Message, Value } from './decode.ts';

/** JavaScript's own form is the wanted one (exponents below 1e-6 and from 1e21), but for the sign of zero. */
function doubleText(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\b', '\\b'],
  ['\f', '\\f'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  // U+2028 and U+2029 in UTF-8: they end lines in JavaScript, so JSON writers escape them.
  ['\xe2\x80\xa8', '\\u2028'],
  ['\xe2\x80\xa9', '\\u2029'],
]);

function quoted(text: string): string {
  const escaped = text.replace(/["\\]|[^ -\xff]|\xe2\x80[\xa8\xa9]/g, (found) => {
    return ESCAPES.get(found) ?? `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  return `"${escaped}"`;
}

function base64(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('base64');
}

export function messageIn(value: Value | undefined): Message | undefined {
  return typeof value === 'object' && !Array.isArray(value) ? (value as Message) : undefined;
}

export function messagesIn(value: Value | undefined): readonly Message[] {
  return Array.isArray(value) ? (value as readonly Message[]) : [];
}

export function textIn(value: Value | undefined): string {
  return typeof value === 'string' ? value : '';
}

/** Bytewise; JavaScript compares binary strings so. */
function byKey([a]: readonly [string, string], [b]: readonly [string, string]): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function json(value: Message | undefined): string {
  const [kind, held] = Object.entries(value ?? {})[0] ?? [];
  if (kind === undefined || held === undefined) return 'null';
  if (kind === 'stringValue') return quoted(textIn(held));
  if (kind === 'bytesValue') return quoted(base64(textIn(held)));
  if (kind === 'doubleValue') {
    const text = doubleText(Number(held));
    return Number.isFinite(held) ? text : `"${text}"`;
  }
  const inside = messagesIn(messageIn(held)?.values);
  if (kind === 'arrayValue') return `[${inside.map(json).join(',')}]`;
  if (kind !== 'kvlistValue') return String(held);
  const members = new Map(inside.map((entry) => [textIn(entry.key), json(messageIn(entry.value))]));
  const texts = [...members].sort(byKey).map(([key, text]) => `${quoted(key)}:${text}`);
  return `{${texts.join(',')}}`;
}

/** The text of an attribute's value or a log's body. */
export function valueText(value: Message | undefined): string {
  const [kind, held] = Object.entries(value ?? {})[0] ?? [];
  if (kind === undefined || held === undefined) return '';
  if (kind === 'stringValue') return textIn(held);
  if (kind === 'bytesValue') return base64(textIn(held));
  if (kind === 'doubleValue') return doubleText(Number(held));
  return json(value);
}

/** How many lists and maps stand inside each other: 0 for a plain value. */
export function nesting(value: Message | undefined): number {
  const [kind, held] = Object.entries(value ?? {})[0] ?? [];
  if (kind !== 'arrayValue' && kind !== 'kvlistValue') return 0;
  const inside = messagesIn(messageIn(held)?.values);
  const values = kind === 'arrayValue' ? inside : inside.map((entry) => messageIn(entry.value));
  return 1 + values.reduce((deepest, entry) => Math.max(deepest, nesting(entry)), 0);
}
