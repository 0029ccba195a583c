/**
 * Frames of HTTP/2 byte by byte (RFC 9113, RFC 7541), for what no client library would send; and a reader of
 * the frames that come back, as far as tests ask for them.
 */
import { PB } from '../support/clients.ts';
import { EXPORT } from '../receive/support.ts';
import { type Raw, rawConnection } from './support.ts';

export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const END_STREAM = 1;
export const END_HEADERS = 4;
export const ACK = 1;
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** Codes of RFC 9113, 7. */
export const ERROR = {
  protocol: 1,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refusedStream: 7,
  compression: 9,
  enhanceYourCalm: 11,
} as const;

const HEAD_BYTES = 9;

export function frameOf(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export const NOTHING = Buffer.alloc(0);
export const settings = (...pairs: readonly (readonly [number, number])[]) => {
  const payload = Buffer.alloc(pairs.length * 6);
  for (const [i, [id, value]] of pairs.entries()) {
    payload.writeUInt16BE(id, i * 6);
    payload.writeUInt32BE(value, i * 6 + 2);
  }
  return frameOf(TYPE.settings, 0, 0, payload);
};
export const SETTINGS_ACK = frameOf(TYPE.settings, ACK, 0, NOTHING);
export const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
export const windowUpdate = (stream: number, by: number) => frameOf(TYPE.windowUpdate, 0, stream, uint32(by));
export const rstStream = (stream: number, code: number) => frameOf(TYPE.rstStream, 0, stream, uint32(code));
export const data = (stream: number, bytes: Uint8Array, flags = 0) => frameOf(TYPE.data, flags, stream, bytes);

/** HPACK integer of a prefix of so many bits, below the pattern in the first byte (RFC 7541, 5.1). */
export function hpackInteger(value: number, prefixBits: number, pattern: number): Buffer {
  const most = 2 ** prefixBits - 1;
  if (value < most) return Buffer.from([pattern | value]);
  const bytes = [pattern | most];
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

function hpackString(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([hpackInteger(bytes.length, 7, 0), bytes]);
}

/** A field with a name of its own, written out (RFC 7541, 6.2): put into the dynamic table, or not. */
export function hpackField(name: string, value: string, indexed = false): Buffer {
  return Buffer.concat([Buffer.from([indexed ? 0x40 : 0]), hpackString(name), hpackString(value)]);
}

export type Fields = readonly (readonly [string, string])[];

/** What every call of OTLP starts with. */
export const CALL: Fields = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', EXPORT.traces],
  [':authority', 'x'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
];
export const NOT_GRPC: Fields = CALL.map(([name, value]) =>
  name === 'content-type' ? ([name, PB] as const) : ([name, value] as const),
);

export function block(fields: Fields): Buffer {
  return Buffer.concat(fields.map(([name, value]) => hpackField(name, value)));
}

/** HEADERS of a call; the client's side stays open unless `flags` says otherwise. */
export function headers(stream: number, fields: Fields = CALL, flags = END_HEADERS): Buffer {
  return frameOf(TYPE.headers, flags, stream, block(fields));
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** A connection that has said hello. */
export interface H2 extends Raw {
  frames(): Frame[];
  /** The code of the GOAWAY that came; undefined without one. */
  goaway(): number | undefined;
  /** The code of the RST_STREAM that came for a stream. */
  reset(stream: number): number | undefined;
}

export async function h2(port: number, hello: Uint8Array = settings()): Promise<H2> {
  const raw = await rawConnection(port);
  await raw.write(Buffer.concat([PREFACE, hello]));
  const frames = () => framesIn(raw.received());
  return {
    ...raw,
    frames,
    goaway: () => frames().find(({ type }) => type === TYPE.goaway)?.payload.readUInt32BE(4),
    reset: (stream) =>
      frames().find((frame) => frame.type === TYPE.rstStream && frame.stream === stream)?.payload.readUInt32BE(0),
  };
}

function framesIn(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  let at = 0;
  while (at + HEAD_BYTES <= bytes.length) {
    const length = bytes.readUIntBE(at, 3);
    const end = at + HEAD_BYTES + length;
    if (end > bytes.length) break;
    frames.push({
      type: bytes.readUInt8(at + 3),
      flags: bytes.readUInt8(at + 4),
      stream: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + HEAD_BYTES, end),
    });
    at = end;
  }
  return frames;
}
