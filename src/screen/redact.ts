/** What a rule hides: the values under its keys whole, and inside of texts what its pattern matches. */
import type { KeyTable } from './keys.ts';
import {
  ARRAY,
  ATTRIBUTE,
  BODY,
  ITEM,
  KEY,
  LIST,
  NAME,
  ROLES,
  STRING,
  SUBMESSAGE_MAX,
  VALUE,
} from './shapes.ts';
import type { Sink } from './sink.ts';
import type { Replacer } from './texts.ts';
import {
  KEY_AT,
  KEY_END,
  MEMBER,
  MEMBER_AT,
  MEMBER_END,
  VALUE_AT,
  VALUE_END,
  readAny,
  readPair,
} from './values.ts';
import { UNUSUAL, eachField } from './wire.ts';

export interface Redaction {
  readonly keys: KeyTable;
  readonly replacer: Replacer | undefined;
  readonly replacement: string;
}

/** Writes a part of a message anew; says whether anything became different. */
type Rewrite = (at: number, end: number) => boolean;

export class Redactor {
  readonly #bytes: Buffer;
  readonly #sink: Sink;
  readonly #rule: Redaction;
  readonly #nestingMax: number;

  constructor(bytes: Buffer, sink: Sink, rule: Redaction, nestingMax: number) {
    this.#bytes = bytes;
    this.#sink = sink;
    this.#rule = rule;
    this.#nestingMax = nestingMax;
  }

  /**
   * Writes the message of a shape at [start, end) into the sink.
   * @returns whether anything was replaced; what was written is of no use otherwise.
   * @throws MALFORMED, UNUSUAL
   */
  message(shape: number, start: number, end: number): boolean {
    let hasName = false;
    return this.#fields(start, end, (tag, at, to) => {
      const role = tag < 128 ? (ROLES[(shape << 7) + tag] as number) : 0;
      if (role === ATTRIBUTE) return this.#inside(tag, at, to, (p, q) => this.#pair(p, q, 0));
      if (role === BODY) return this.#inside(tag, at, to, (p, q) => this.#value(p, q, 0));
      if (role === NAME) {
        if (hasName) throw UNUSUAL;
        hasName = true;
        return this.#text(tag, at, to);
      }
      if (role === 0 || role >= SUBMESSAGE_MAX) return false;
      return this.#inside(tag, at, to, (p, q) => this.message(role, p, q));
    });
  }

  /** @param field writes a field with a length anew, or returns false and leaves no trace. */
  #fields(start: number, end: number, field: (tag: number, at: number, to: number) => boolean): boolean {
    const bytes = this.#bytes;
    let copied = start;
    let changed = false;
    eachField(bytes, start, end, (tag, from, at, to) => {
      this.#sink.raw(bytes, copied, from);
      copied = from;
      const before = this.#sink.at;
      if (field(tag, at, to)) {
        copied = to;
        changed = true;
      } else this.#sink.at = before;
    });
    if (changed) this.#sink.raw(bytes, copied, end);
    return changed;
  }

  #inside(tag: number, at: number, end: number, rewrite: Rewrite): boolean {
    const before = this.#sink.at;
    const content = this.#sink.open(tag);
    if (rewrite(at, end)) {
      this.#sink.close(content);
      return true;
    }
    this.#sink.at = before;
    return false;
  }

  #pair(start: number, end: number, depth: number): boolean {
    readPair(this.#bytes, start, end);
    const [value, valueEnd] = [VALUE_AT, VALUE_END];
    const isHidden = this.#rule.keys.find(this.#bytes, KEY_AT, KEY_END) !== undefined;
    this.#sink.field(KEY, this.#bytes, KEY_AT, KEY_END);
    if (!isHidden) return this.#inside(VALUE, value, valueEnd, (p, q) => this.#value(p, q, depth));
    const content = this.#sink.open(VALUE);
    this.#sink.text(STRING, this.#rule.replacement);
    this.#sink.close(content);
    return true;
  }

  #value(start: number, end: number, depth: number): boolean {
    readAny(this.#bytes, start, end);
    if (MEMBER === STRING) return this.#text(STRING, MEMBER_AT, MEMBER_END);
    if ((MEMBER !== ARRAY && MEMBER !== LIST) || depth >= this.#nestingMax) return false;
    const isArray = MEMBER === ARRAY;
    const item: Rewrite = (p, q) => (isArray ? this.#value(p, q, depth + 1) : this.#pair(p, q, depth + 1));
    return this.#inside(MEMBER, MEMBER_AT, MEMBER_END, (from, to) =>
      this.#fields(from, to, (tag, p, q) => tag === ITEM && this.#inside(tag, p, q, item)),
    );
  }

  #text(tag: number, at: number, end: number): boolean {
    const { replacer } = this.#rule;
    if (replacer === undefined || at === end) return false;
    const text = replacer.replaced(this.#bytes.toString('utf8', at, end));
    if (text === undefined) return false;
    this.#sink.text(tag, text);
    return true;
  }
}
