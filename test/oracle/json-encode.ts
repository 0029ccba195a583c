/**
 * Messages as decode.ts gives them to OTLP/JSON, over the same table: ids in hex, bytes in base64, 64-bit integers as
 * strings, NaN and infinities as strings. The way back of json.ts.
 */
import { isUtf8 } from 'node:buffer';
import { type Field, MESSAGES, type MessageName } from '../../proto/fields.ts';
import type { Message, Value } from './decode.ts';
import { messageIn } from './text.ts';

const HEX_FIELDS = new Set(['traceId', 'spanId', 'parentSpanId']);
/** What JSON can't carry. */
class NotText extends Error {}

function stringText(binary: string): string {
  const bytes = Buffer.from(binary, 'latin1');
  if (!isUtf8(bytes)) throw new NotText('not UTF-8');
  return JSON.stringify(bytes.toString('utf8'));
}

function doubleText(value: number): string {
  if (!Number.isFinite(value)) return `"${value}"`;
  return Object.is(value, -0) ? '-0.0' : String(value);
}

function valueText(name: string, type: Field['type'], value: Value): string {
  if (type === 'string') return stringText(String(value));
  if (type === 'bytes')
    return `"${Buffer.from(String(value), 'latin1').toString(HEX_FIELDS.has(name) ? 'hex' : 'base64')}"`;
  if (type === 'double') return doubleText(Number(value));
  if (typeof value === 'bigint') return `"${value}"`;
  if (typeof value !== 'object') return String(value);
  return messageText(type as MessageName, messageIn(value) ?? {});
}

function messageText(type: MessageName, message: Message): string {
  const members = Object.entries(message).map(([name, value]) => {
    const field = MESSAGES[type][name];
    if (field === undefined) throw new Error(`${type} has no field ${name}`);
    const list: readonly Value[] = Array.isArray(value) ? value : [value];
    const texts = list.map((item) => valueText(name, field.type, item));
    return `"${name}":${field.repeated ? `[${texts.join(',')}]` : texts[0]}`;
  });
  return `{${members.join(',')}}`;
}

/** The message as JSON, or undefined when it has a string that is no UTF-8. */
export function encodeJson(type: MessageName, message: Message): Uint8Array | undefined {
  try {
    return Buffer.from(messageText(type, message));
  } catch (error) {
    if (error instanceof NotText) return undefined;
    throw error;
  }
}
