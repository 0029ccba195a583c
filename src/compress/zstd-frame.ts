/**
 * The outline of zstd frames (RFC 8878, section 3.1): where each ends and how much it says it holds.
 * Enters: a body that claims to be zstd. Nothing is decompressed here.
 *
 * Needed because node:zlib reports a frame that is cut short as if it had ended there, and stops after the
 * first of several frames.
 */

const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;

export interface ZstdFrame {
  readonly start: number;
  /** Just behind its last byte. */
  readonly end: number;
  /** What its header declares; undefined for frames that were streamed. 0 for skippable frames. */
  readonly contentBytes: number | undefined;
  /** Carries no data: user-defined metadata that decoders pass over. */
  readonly skippable: boolean;
}

interface FrameHeader {
  readonly bytes: number;
  readonly contentBytes: number | undefined;
  readonly hasChecksum: boolean;
}

/** The frame that begins at `start`, or undefined where none begins or its end is missing. */
export function readZstdFrame(body: Uint8Array, start: number): ZstdFrame | undefined {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  if (start + 8 <= body.length && (view.getUint32(start, true) & ~0xf) >>> 0 === SKIPPABLE_MAGIC) {
    const end = start + 8 + view.getUint32(start + 4, true);
    return end <= body.length ? { start, end, contentBytes: 0, skippable: true } : undefined;
  }
  const header = readHeader(view, start);
  if (header === undefined) return undefined;
  let at = start + header.bytes;
  for (let last = false; !last; ) {
    if (at + 3 > body.length) return undefined;
    const block = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    last = (block & 1) === 1;
    const type = (block >> 1) & 3;
    if (type === RESERVED_BLOCK) return undefined;
    at += 3 + (type === RLE_BLOCK ? 1 : block >> 3);
  }
  const end = at + (header.hasChecksum ? 4 : 0);
  if (end > body.length) return undefined;
  return { start, end, contentBytes: header.contentBytes, skippable: false };
}

/**
 * What the header of the frame at the body's start declares to hold, bytes; undefined where it doesn't say.
 */
export function declaredContentBytes(body: Uint8Array): number | undefined {
  return readHeader(new DataView(body.buffer, body.byteOffset, body.byteLength), 0)?.contentBytes;
}

function readHeader(view: DataView, start: number): FrameHeader | undefined {
  if (start + 6 > view.byteLength || view.getUint32(start, true) !== FRAME_MAGIC) return undefined;
  const descriptor = view.getUint8(start + 4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 && singleSegment ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0);
  const sizeAt = start + 5 + (singleSegment ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0);
  if (sizeAt + sizeBytes > view.byteLength) return undefined;
  return {
    bytes: sizeAt + sizeBytes - start,
    contentBytes: readContentSize(view, sizeAt, sizeBytes),
    hasChecksum: (descriptor & 4) !== 0,
  };
}

function readContentSize(view: DataView, at: number, sizeBytes: number): number | undefined {
  switch (sizeBytes) {
    case 1:
      return view.getUint8(at);
    case 2:
      return view.getUint16(at, true) + 256;
    case 4:
      return view.getUint32(at, true);
    case 8:
      return Number(view.getBigUint64(at, true));
    default:
      return undefined;
  }
}
