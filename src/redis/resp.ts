/**
 * RESP2, both ways. In: the socket's chunks, cut anywhere. Out: events, so that whoever reads a reply decides
 * whether bulk bytes are gathered or passed on as views. Nothing is copied here.
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
import { Fault } from '../base/errors.ts';

export type CommandPart = string | number | Uint8Array;

/** What the parser saw. */
export interface RespSink {
  /** `type` is the first byte of the line: `+`, `-` or `:`. */
  line(type: number, text: string): void;
  /** `$-1` or `*-1`. */
  nil(): void;
  array(length: number): void;
  bulkStart(bytes: number): void;
  /** A part of the bulk's bytes, never empty: a view of the chunk that was fed. */
  bulkBytes(view: Buffer): void;
  bulkEnd(): void;
}

const PLUS = 0x2b;
export const MINUS = 0x2d;
export const COLON = 0x3a;
const DOLLAR = 0x24;
const STAR = 0x2a;
const CR = 0x0d;
const LF = 0x0a;

/** Error replies carry a script's message, never data. A longer line is not Redis. */
const LINE_BYTES_MAX = 65_536;
/** Redis' own bound of a bulk (proto-max-bulk-len). */
const BULK_BYTES_MAX = 536_870_912;

function broken(message: string): Fault {
  return new Fault('redis_unavailable', 'here', `not a RESP reply: ${message}`);
}

/**
 * A command as the pieces of one write: strings, and between them the payloads as they are, so that a payload
 * is handed to the kernel from where it lies. The payloads must not change until the command was answered.
 */
export function encodeCommand(parts: readonly CommandPart[]): (string | Uint8Array)[] {
  const pieces: (string | Uint8Array)[] = [];
  let text = `*${parts.length}\r\n`;
  for (const part of parts) {
    if (part instanceof Uint8Array) {
      pieces.push(`${text}$${part.byteLength}\r\n`);
      if (part.byteLength > 0) pieces.push(part);
      text = '\r\n';
    } else {
      const value = String(part);
      text += `$${Buffer.byteLength(value)}\r\n${value}\r\n`;
    }
  }
  pieces.push(text);
  return pieces;
}

/** Incremental parser of replies. Bytes go in through `feed`, events go to the sink, a Fault ends its use. */
export class RespParser {
  readonly #sink: RespSink;
  /** The beginning of a line whose end has not arrived. */
  #partialLine = '';
  /** Of the bulk being read: bytes still to come with its CR LF, or 0 between bulks. */
  #bulkLeft = 0;

  constructor(sink: RespSink) {
    this.#sink = sink;
  }

  /** @throws Fault `redis_unavailable` when the bytes are no RESP: the connection is of no use then. */
  feed(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) at = this.#bulkLeft > 0 ? this.#readBulk(chunk, at) : this.#readLine(chunk, at);
  }

  #readBulk(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#bulkLeft);
    const payloadEnd = Math.min(end, at + this.#bulkLeft - 2);
    if (payloadEnd > at) this.#sink.bulkBytes(chunk.subarray(at, payloadEnd));
    for (let i = Math.max(at, payloadEnd); i < end; i++) {
      const wanted = this.#bulkLeft - (i - at) === 2 ? CR : LF;
      if (chunk[i] !== wanted) throw broken('a bulk is longer than announced');
    }
    this.#bulkLeft -= end - at;
    if (this.#bulkLeft === 0) this.#sink.bulkEnd();
    return end;
  }

  #readLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(LF, at);
    const lineEnd = end < 0 ? chunk.length : end + 1;
    if (this.#partialLine.length + lineEnd - at > LINE_BYTES_MAX) throw broken('a line without end');
    const text = this.#partialLine + chunk.toString('latin1', at, lineEnd);
    if (end < 0) {
      this.#partialLine = text;
    } else {
      this.#partialLine = '';
      if (text.charCodeAt(text.length - 2) !== CR) throw broken('a line without carriage return');
      this.#line(text.charCodeAt(0), text.slice(1, -2));
    }
    return lineEnd;
  }

  #line(type: number, text: string): void {
    if (type === PLUS || type === MINUS || type === COLON) {
      this.#sink.line(type, text);
    } else if (type === DOLLAR || type === STAR) {
      const length = lengthOf(text);
      if (length < 0) this.#sink.nil();
      else if (type === STAR) this.#sink.array(length);
      else {
        this.#sink.bulkStart(length);
        this.#bulkLeft = length + 2;
      }
    } else {
      throw broken(`a line of type ${type}`);
    }
  }
}

function lengthOf(text: string): number {
  const length = /^(-1|\d{1,9})$/.test(text) ? Number(text) : Number.NaN;
  if (!(length <= BULK_BYTES_MAX)) throw broken('a length that is no length');
  return length;
}
