/** Bytes that are being written: a buffer that grows, and messages within messages. */

const SIZE_MIN = 1024;
/** A buffer that grew beyond this for one large record isn't kept. */
const KEPT_BYTES_MAX = 1 << 20;
/** What is reserved for a length that isn't known yet. */
const LENGTH_BYTES = 5;

export class Sink {
  bytes: Buffer;
  at = 0;

  constructor(size: number = SIZE_MIN) {
    this.bytes = Buffer.allocUnsafeSlow(Math.max(SIZE_MIN, size));
  }

  clear(): void {
    this.at = 0;
    if (this.bytes.length > KEPT_BYTES_MAX) this.bytes = Buffer.allocUnsafeSlow(SIZE_MIN);
  }

  private need(n: number): void {
    if (this.at + n <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.at + n, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
  }

  varint(value: number): void {
    this.need(LENGTH_BYTES);
    let rest = value;
    while (rest > 127) {
      this.bytes[this.at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.bytes[this.at++] = rest;
  }

  raw(from: Uint8Array, start: number, end: number): void {
    const n = end - start;
    this.need(n);
    this.bytes.set(from.subarray(start, end), this.at);
    this.at += n;
  }

  fixed64(value: bigint): void {
    this.need(8);
    this.bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.at);
    this.at += 8;
  }

  /** A field with a length, whole. */
  field(tag: number, from: Uint8Array, start: number, end: number): void {
    this.varint(tag);
    this.varint(end - start);
    this.raw(from, start, end);
  }

  text(tag: number, value: string): void {
    const bytes = Buffer.from(value);
    this.field(tag, bytes, 0, bytes.length);
  }

  /** Begins a message with a length; what is returned goes to `close`. */
  open(tag: number): number {
    this.varint(tag);
    this.need(LENGTH_BYTES);
    this.at += LENGTH_BYTES;
    return this.at;
  }

  /**
   * Ends it. Short ones move up to their length; others keep its five bytes, an overlong varint, which
   * every decoder takes.
   */
  close(content: number): void {
    const n = this.at - content;
    const to = content - LENGTH_BYTES;
    if (n < 128) {
      this.bytes[to] = n;
      this.bytes.copyWithin(to + 1, content, this.at);
      this.at -= LENGTH_BYTES - 1;
      return;
    }
    for (let i = 0; i < LENGTH_BYTES - 1; i++) this.bytes[to + i] = ((n >>> (7 * i)) & 127) | 128;
    this.bytes[to + LENGTH_BYTES - 1] = n >>> 28;
  }
}
