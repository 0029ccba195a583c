/** Writes plain objects as OTLP/JSON by the tables of proto/fields.ts, and notes where the slots are. */
import { type Field, MESSAGES, type MessageName, type Scalar } from '../../proto/fields.ts';
import { assert } from '../../src/base/errors.ts';
import { isSlot, type Encoded, type Mark, type Slot, type Tree, type Value } from './slot.ts';

/** Digits of a time in ns: 19 from 2001 to 2286. */
const TIME_DIGITS = 19;
/** These bytes are written as hex, all others as base64. */
const HEX_FIELDS: readonly string[] = ['traceId', 'spanId', 'parentSpanId'];

/** The same request as encodeProtobuf would write: ids in hex, bytes in base64, 64-bit integers as text. */
export function encodeJson(message: MessageName, tree: Tree): Encoded {
  const parts: Buffer[] = [];
  const marks: Mark[] = [];
  let length = 0;
  const text = (part: string): void => {
    const bytes = Buffer.from(part);
    parts.push(bytes);
    length += bytes.length;
  };

  const writeTree = (type: MessageName, object: Tree): void => {
    let separator = '{';
    for (const [name, value] of Object.entries(object)) {
      if (value === undefined) continue;
      const field = MESSAGES[type][name];
      assert(field !== undefined, `${type} has a field ${name}`);
      text(`${separator}"${name}":`);
      separator = ',';
      if (field.repeated) writeList(name, field, value as readonly Value[]);
      else writeValue(name, field, value);
    }
    text(separator === '{' ? '{}' : '}');
  };
  const writeList = (name: string, field: Field, values: readonly Value[]): void => {
    text('[');
    values.forEach((value, index) => {
      if (index > 0) text(',');
      writeValue(name, field, value);
    });
    text(']');
  };
  const writeValue = (name: string, { type }: Field, value: Value): void => {
    if (isSlot(value)) {
      marks.push({ slot: value, position: length + 1 });
      text(`"${'0'.repeat(widthOf(value))}"`);
    } else if (isMessage(type)) writeTree(type, value as Tree);
    else text(scalar(name, type, value));
  };

  writeTree(message, tree);
  return { bytes: Buffer.concat(parts), marks };
}

function isMessage(type: Field['type']): type is MessageName {
  return Object.hasOwn(MESSAGES, type);
}

function widthOf({ slot }: Slot): number {
  if (slot === 'trace') return 32;
  return slot === 'span' ? 16 : TIME_DIGITS;
}

function scalar(name: string, type: Scalar, value: Value): string {
  switch (type) {
    case 'bytes':
      return JSON.stringify(
        Buffer.from(value as Uint8Array).toString(HEX_FIELDS.includes(name) ? 'hex' : 'base64'),
      );
    case 'int64':
    case 'uint64':
    case 'fixed64':
    case 'sfixed64':
      return `"${String(value)}"`;
    default:
      return JSON.stringify(value);
  }
}
