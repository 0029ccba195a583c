/**
 * Which member of an AnyValue is set, and where. A oneof: the last member on the wire wins, and an array or
 * key-value list that is sent in pieces is merged, unless another member stood between them.
 */
import { ARRAY_VALUE, KEY_VALUE_LIST, check } from './check.ts';
import { load8 } from './memory.ts';
import { POS, fixed64, gather, length, readTag, skip, varintWithin } from './wire.ts';

// The tags of the members.
export const STRING: u32 = 10;
export const BOOL: u32 = 16;
export const INT: u32 = 24;
export const DOUBLE: u32 = 33;
export const ARRAY: u32 = 42;
export const LIST: u32 = 50;
export const BYTES: u32 = 58;

/** What `readMember` found: the tag, 0 for an empty value. */
export let MEMBER: u32 = 0;
/** Where its content is; the end only of members with a length. */
export let MEMBER_AT: u32 = 0;
export let MEMBER_END: u32 = 0;

export function readMember(start: u32, end: u32): void {
  let member: u32 = 0;
  let at: u32 = start;
  let to: u32 = start;
  let firstPiece: u32 = start;
  let inPieces = false;
  let p = start;
  while (p < end) {
    const field = p;
    const tag = readTag(p, end);
    p = POS;
    if (member === ARRAY || member === LIST) checkNested(member, at, to);
    switch (tag) {
      case STRING:
      case BYTES:
      case ARRAY:
      case LIST: {
        const n = length(p, end);
        inPieces = member === tag;
        if (!inPieces) firstPiece = field;
        at = POS;
        to = at + n;
        p = to;
        member = tag;
        break;
      }
      case BOOL:
      case INT:
        varintWithin(p, end);
        at = p;
        p = POS;
        member = tag;
        break;
      case DOUBLE:
        at = fixed64(p, end);
        p = POS;
        member = tag;
        break;
      default:
        p = skip(p, end, tag);
    }
  }
  if (inPieces && (member === ARRAY || member === LIST)) {
    at = gather(firstPiece, end, member);
    to = POS;
  }
  MEMBER = member;
  MEMBER_AT = at;
  MEMBER_END = to;
}

/** Fails where an array or list that isn't stored is malformed. */
export function checkNested(member: u32, p: u32, end: u32): void {
  check(p, end, member === ARRAY ? ARRAY_VALUE : KEY_VALUE_LIST);
}

/** Whether the bool at `p` is true: any varint but 0. */
export function isTrue(p: u32): boolean {
  while (load8(p) === 128) p++;
  return load8(p) !== 0;
}
