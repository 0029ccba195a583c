/**
 * Protobuf bytes, written one after the other into memory that is used again for the next request.
 *
 * Nothing here checks for room: the converter calls `reserve` at each value, for as many bytes as JSON is
 * left. That holds because no JSON value becomes longer in protobuf by more than its own tag, length and
 * number.
 */

/** The memory of larger requests isn't kept for the next one. */
const KEPT_BYTES_MAX = 4 << 20;
/**
 * What a value may need beyond its text: tag, length, a number of 8 bytes, a word that is written across the
 * end of a string, and the lengths of the messages that close behind it where those have to be made longer.
 */
const SLACK_BYTES = 256;

export class ProtobufWriter {
  bytes = new Uint8Array(1 << 16);
  view = new DataView(this.bytes.buffer);
  at = 0;

  /** Begins a new message; what was written before is lost. */
  reset(): void {
    if (this.bytes.length > KEPT_BYTES_MAX) {
      this.bytes = new Uint8Array(1 << 16);
      this.view = new DataView(this.bytes.buffer);
    }
    this.at = 0;
  }

  /** Makes room for a value and everything behind it, whose JSON text takes `textBytes` at most. */
  reserve(textBytes: number): void {
    if (this.at + textBytes + SLACK_BYTES > this.bytes.length) this.#grow(textBytes);
  }

  #grow(textBytes: number): void {
    const needed = this.at + textBytes + SLACK_BYTES;
    const larger = new Uint8Array(Math.max(needed, Math.ceil(this.bytes.length * 1.5)));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }

  /** A number below 2^32 as a varint; tags too. */
  varint32(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      this.bytes[this.at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[this.at++] = rest;
  }

  /** A number of 64 bits, given as two words, as a varint. */
  varint64(low: number, high: number): void {
    let rest = low >>> 0;
    let above = high >>> 0;
    while (above !== 0) {
      this.bytes[this.at++] = (rest & 0x7f) | 0x80;
      rest = ((rest >>> 7) | (above << 25)) >>> 0;
      above >>>= 7;
    }
    this.varint32(rest);
  }

  fixed32(value: number): void {
    this.view.setInt32(this.at, value, true);
    this.at += 4;
  }

  fixed64(low: number, high: number): void {
    this.view.setInt32(this.at, low, true);
    this.view.setInt32(this.at + 4, high, true);
    this.at += 8;
  }

  double(value: number): void {
    this.view.setFloat64(this.at, value, true);
    this.at += 8;
  }

  /** Sets `lengthBytes` aside for the length of what follows; returns where, for `close`. */
  open(lengthBytes: number): number {
    const start = this.at;
    this.at += lengthBytes;
    return start;
  }

  /**
   * Writes the length of everything since `open`, padded to the bytes set aside or, where they don't do,
   * moving it.
   */
  close(start: number, lengthBytes: number): void {
    const length = this.at - start - lengthBytes;
    if (length < 0x80 && lengthBytes === 1) {
      this.bytes[start] = length;
      return;
    }
    const needed = varintBytes(length);
    const width = Math.max(needed, lengthBytes);
    if (width !== lengthBytes) {
      this.bytes.copyWithin(start + width, start + lengthBytes, this.at);
      this.at += width - lengthBytes;
    }
    let rest = length;
    const last = start + width - 1;
    for (let at = start; at < last; at++) {
      this.bytes[at] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[last] = rest;
  }
}

function varintBytes(value: number): number {
  if (value < 1 << 7) return 1;
  if (value < 1 << 14) return 2;
  if (value < 1 << 21) return 3;
  return value < 1 << 28 ? 4 : 5;
}
