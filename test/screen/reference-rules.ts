/**
 * Conditions and redactions on decoded objects, for the reference (reference.ts). Texts are "binary" strings, one
 * char for each byte.
 */
import type { Condition, Rule } from '../../src/config/rules.ts';
import type { Signal } from '../../src/model/signal.ts';
import type { Message, Value } from '../oracle/decode.ts';

export const list = (message: Message, name: string) => (message[name] ?? []) as readonly Message[];
const utf8 = (text: string) => Buffer.from(text, 'latin1').toString('utf8');
export const binary = (text: string) => Buffer.from(text).toString('latin1');
export const MEMBERS = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'];
const METRIC_KINDS = ['gauge', 'sum', 'histogram', 'exponential_histogram', 'summary'];
const SPAN_KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
export const ATTRIBUTE_LISTS = ['attributes', 'filteredAttributes'];

export interface Around {
  readonly signal: Signal;
  readonly resource: Message;
  readonly scope: Message;
  readonly metric: Message;
}

/** Every message with attributes that belongs to the record (or resource, or scope), itself first. */
export function holders(message: Message): Message[] {
  return [message, ...['events', 'links', 'exemplars'].flatMap((name) => list(message, name))];
}

// Conditions.

function attribute(message: Message, key: string): Value | undefined {
  const found = list(message, 'attributes').find((pair) => (pair['key'] ?? '') === binary(key));
  return found === undefined ? undefined : (found['value'] ?? {});
}

const textOrNothing = (value: Value | undefined) =>
  value === undefined || value === '' ? undefined : utf8(String(value));

function fieldOf(field: string, record: Message, { signal, resource, scope, metric }: Around): unknown {
  const any = (value: Value | undefined) => {
    const member = value as Message | undefined;
    if (member === undefined) return undefined;
    if (member['stringValue'] !== undefined) return utf8(String(member['stringValue']));
    const plain = member['boolValue'] ?? member['doubleValue'] ?? member['intValue'];
    if (plain === undefined) return null;
    return typeof plain === 'bigint' ? Number(plain) : plain;
  };
  if (field.startsWith('resource.')) return any(attribute(resource, field.slice(9)));
  if (field.startsWith('attributes.')) return any(attribute(record, field.slice(11)));
  if (field === 'scope.name') return textOrNothing(scope['name']);
  if (field === 'name') {
    if (signal === 'metrics') return textOrNothing(metric['name']);
    return textOrNothing(signal === 'logs' ? record['eventName'] : record['name']);
  }
  if (field === 'kind' && signal === 'metrics')
    return METRIC_KINDS[MEMBERS.findIndex((name) => name in metric)];
  if (field === 'body' && signal === 'logs') return any(record['body']);
  return undefined;
}

function numbersOf(field: string, word: unknown): number[] {
  if (typeof word !== 'string') return [Number(word)];
  if (field === 'kind') return SPAN_KINDS.includes(word) ? [SPAN_KINDS.indexOf(word)] : [];
  if (field === 'status') return [['unset', 'ok', 'error'].indexOf(word)];
  const first = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].indexOf(word) * 4 + 1;
  return [first, first + 1, first + 2, first + 3];
}

function numberOf(field: string, record: Message, signal: Signal): number | undefined {
  if (field === 'kind' && signal === 'traces') return Number(record['kind'] ?? 0);
  if (field === 'status' && signal === 'traces')
    return Number((record['status'] as Message | undefined)?.['code'] ?? 0);
  if (field !== 'severity' || signal !== 'logs') return undefined;
  const number = Number(record['severityNumber'] ?? 0);
  if (number !== 0) return number;
  const text = String(record['severityText'] ?? '').toLowerCase();
  const known = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].includes(text);
  return known ? (numbersOf('severity', text)[0] ?? 0) : 0;
}

export function holds(condition: Condition, record: Message, around: Around): boolean {
  const { field, equals, oneOf, startsWith, matches, exists, below, above } = condition;
  const number = numberOf(field, record, around.signal);
  if (number !== undefined) {
    if (exists !== undefined && exists !== (number !== 0)) return false;
    if (equals !== undefined && !numbersOf(field, equals).includes(number)) return false;
    if (oneOf !== undefined && !oneOf.flatMap((word) => numbersOf(field, word)).includes(number))
      return false;
    return (below === undefined || number < below) && (above === undefined || number > above);
  }
  const value = fieldOf(field, record, around);
  const asks = [equals, oneOf, startsWith, matches, below, above].some((operand) => operand !== undefined);
  if (value === undefined) return exists === false && !asks;
  if (exists === false) return false;
  if (equals !== undefined && value !== equals) return false;
  if (oneOf !== undefined && !(oneOf as readonly unknown[]).includes(value)) return false;
  if (startsWith !== undefined && !(typeof value === 'string' && value.startsWith(startsWith))) return false;
  if (matches !== undefined && !(typeof value === 'string' && new RegExp(matches).test(value))) return false;
  if (below !== undefined && !(typeof value === 'number' && value < below)) return false;
  return above === undefined || (typeof value === 'number' && value > above);
}

/** What has to be known to ask the condition: 0 the resource, 1 the scope, 2 the metric, 3 the record. */
export function levelOf({ field }: Condition, signal: Signal): number {
  if (field.startsWith('resource.')) return 0;
  if (field === 'scope.name') return 1;
  if (signal === 'metrics' && (field === 'name' || field === 'kind')) return 2;
  const foreign = {
    kind: 'logs',
    status: 'logs metrics',
    severity: 'traces metrics',
    body: 'traces metrics',
  };
  return (foreign as Record<string, string>)[field]?.includes(signal) ? 0 : 3;
}

// Redaction.

/** Whether the redaction at hand has replaced anything. */
let replaced = false;

function redactText(rule: Rule, text: string): string {
  if (rule.pattern === undefined) return text;
  const before = utf8(text);
  const { replacement = '***' } = rule;
  let after = '';
  let copied = 0;
  for (const { 0: match, index } of before.matchAll(new RegExp(rule.pattern, 'g'))) {
    if (match === '') continue;
    after += before.slice(copied, index) + replacement;
    copied = index + match.length;
  }
  if (copied === 0) return text;
  replaced = true;
  return binary(
    after.length > 2 * before.length + replacement.length ? replacement : after + before.slice(copied),
  );
}

function redactValue(rule: Rule, value: Message, depth: number, nestingMax: number): void {
  if (typeof value['stringValue'] === 'string') value['stringValue'] = redactText(rule, value['stringValue']);
  for (const name of ['arrayValue', 'kvlistValue']) {
    const inner = value[name] as Message | undefined;
    if (inner === undefined || depth >= nestingMax) continue;
    for (const item of list(inner, 'values')) {
      if (name === 'arrayValue') redactValue(rule, item, depth + 1, nestingMax);
      else redactPair(rule, item, depth + 1, nestingMax);
    }
  }
}

function redactPair(rule: Rule, pair: Message, depth: number, nestingMax: number): void {
  const { replacement = '***' } = rule;
  if (rule.keys?.map(binary).includes(String(pair['key'] ?? ''))) {
    pair['value'] = { stringValue: binary(replacement) };
    replaced = true;
  } else if (pair['value'] !== undefined) redactValue(rule, pair['value'] as Message, depth, nestingMax);
}

/** @returns whether anything is different now */
export function redact(rule: Rule, message: Message, isRecord: boolean, nestingMax: number): boolean {
  replaced = false;
  for (const holder of holders(message)) {
    for (const name of ATTRIBUTE_LISTS) {
      for (const pair of list(holder, name)) redactPair(rule, pair, 0, nestingMax);
    }
    if (isRecord && typeof holder['name'] === 'string') holder['name'] = redactText(rule, holder['name']);
  }
  const status = message['status'] as Message | undefined;
  if (typeof status?.['message'] === 'string') status['message'] = redactText(rule, status['message']);
  if (typeof message['eventName'] === 'string') message['eventName'] = redactText(rule, message['eventName']);
  if (message['body'] !== undefined) redactValue(rule, message['body'] as Message, 0, nestingMax);
  return replaced;
}
