/**
 * The place in a JSON text, and the parts of JSON's grammar (RFC 8259) that need no output.
 *
 * The text is copied behind the cursor with a few NUL bytes after its end. NUL is legal nowhere in JSON, so
 * every loop stops there by itself and words may be read across the end: no read needs a check of its own.
 */
import { Malformed } from '../model/block.ts';

/** The bytes of JSON's grammar. */
export const QUOTE = 0x22;
export const BACKSLASH = 0x5c;
export const COMMA = 0x2c;
export const COLON = 0x3a;
export const MINUS = 0x2d;
export const OPEN_BRACE = 0x7b;
export const CLOSE_BRACE = 0x7d;
export const OPEN_BRACKET = 0x5b;
export const CLOSE_BRACKET = 0x5d;
export const LOWER_F = 0x66;
export const LOWER_N = 0x6e;
export const LOWER_T = 0x74;
const LOWER_E = 0x65;
const POINT = 0x2e;
const PLUS = 0x2b;
const ZERO = 0x30;

/** Four letters as the little-endian word that the cursor reads. */
const WORD_NULL = 0x6c6c756e;
const WORD_TRUE = 0x65757274;
const WORD_ALSE = 0x65736c61;

const PADDING_BYTES = 16;
/** The memory of larger texts isn't kept for the next one. */
const KEPT_BYTES_MAX = 1 << 20;

export class JsonCursor {
  bytes = new Uint8Array(1 << 16);
  view = new DataView(this.bytes.buffer);
  at = 0;
  /** Just behind the last byte of the text. */
  end = 0;

  /** Begins at the start of `json`, which is copied. */
  load(json: Uint8Array): void {
    const room = json.length + PADDING_BYTES;
    if (this.bytes.length < room || (this.bytes.length > KEPT_BYTES_MAX && room <= KEPT_BYTES_MAX)) {
      this.bytes = new Uint8Array(Math.max(1 << 16, room));
      this.view = new DataView(this.bytes.buffer);
    }
    this.bytes.set(json);
    this.bytes.fill(0, json.length, room);
    this.at = 0;
    this.end = json.length;
  }

  /** Steps over white space and returns the byte that follows without consuming it; 0 at the end. */
  peek(): number {
    const { bytes } = this;
    let at = this.at;
    let byte = bytes[at] as number;
    while (byte <= 0x20 && (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09)) {
      byte = bytes[++at] as number;
    }
    this.at = at;
    return byte;
  }

  /** Steps over the colon behind a key. */
  colon(): void {
    if (this.bytes[this.at] === COLON || this.peek() === COLON) this.at++;
    else this.unexpected('a colon');
  }

  /** Steps over `null`, whose first letter is the next byte. */
  readNull(): void {
    if (this.view.getInt32(this.at, true) !== WORD_NULL) this.unexpected('a value');
    this.at += 4;
  }

  /** Steps over `true` or `false`, whose first letter is the next byte. */
  readBool(): boolean {
    const isTrue = this.bytes[this.at] === LOWER_T;
    const word = this.view.getInt32(isTrue ? this.at : this.at + 1, true);
    if (word !== (isTrue ? WORD_TRUE : WORD_ALSE)) this.unexpected('a value');
    this.at += isTrue ? 4 : 5;
    return isTrue;
  }

  /** Steps over a number in JSON's grammar. */
  skipNumber(): void {
    const { bytes } = this;
    if (bytes[this.at] === MINUS) this.at++;
    if (bytes[this.at] === ZERO) this.at++;
    else this.#digits();
    if (bytes[this.at] === POINT) {
      this.at++;
      this.#digits();
    }
    if (((bytes[this.at] as number) | 0x20) === LOWER_E) {
      this.at++;
      if (bytes[this.at] === MINUS || bytes[this.at] === PLUS) this.at++;
      this.#digits();
    }
  }

  #digits(): void {
    const start = this.at;
    while (isDigit(this.bytes[this.at] as number)) this.at++;
    if (this.at === start) this.unexpected('a digit');
  }

  /** Whether every byte has been consumed; white space must have been stepped over. */
  get done(): boolean {
    return this.at >= this.end;
  }

  /** @throws Malformed always, with what was expected and what stands there instead. */
  unexpected(expected: string): never {
    throw new Malformed(
      `the JSON text needs ${expected} but has ${this.describeByte()}`,
      Math.min(this.at, this.end),
    );
  }

  /** @throws Malformed always. `at` is where the value began. */
  refuse(message: string, at: number): never {
    throw new Malformed(message, at);
  }

  private describeByte(): string {
    if (this.done) return 'its end';
    const byte = this.bytes[this.at] as number;
    if (byte > 0x20 && byte < 0x7f) return `'${String.fromCharCode(byte)}'`;
    return `the byte 0x${byte.toString(16).padStart(2, '0')}`;
  }
}

export function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= 0x39;
}
