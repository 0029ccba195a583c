/**
 * What both engines borrow from JavaScript: the way out of a request that can't be decoded, and the text of a
 * double.
 */
import { Fault } from '../base/errors.ts';
import { Malformed } from '../model/block.ts';
import * as codes from './codes.ts';

const MESSAGES: ReadonlyMap<number, string> = new Map([
  [codes.CUT_SHORT, 'a field reaches beyond the end of its message'],
  [codes.VARINT_TOO_LONG, 'a varint has more than 10 bytes'],
  [codes.LENGTH_TOO_LARGE, 'a length is beyond 2 GiB'],
  [codes.FIELD_NUMBER_INVALID, 'a field number is 0 or too large'],
  [codes.WIRE_TYPE_UNKNOWN, 'a wire type is unknown'],
  [codes.GROUP_UNMATCHED, 'a group has no end, or an end no group'],
  [codes.GROUPS_TOO_DEEP, 'unknown groups are nested too deep'],
  [codes.PACKED_UNEVEN, 'a packed field holds no whole number of values'],
  [codes.TOO_MANY_PIECES, 'submessages are sent in too many pieces to be merged'],
  [codes.ROWS_TOO_LARGE, 'the rows would be too large: resource and scope are stored with each of them'],
]);

/** A record exceeds a bound: what a reading comes to that can't go on to the request's end. */
export class Exceeded extends Error {}

/**
 * Leaves the transcoder through all of its frames; the open blocks have to be rolled back then.
 * @throws Malformed with the offset in the request; Exceeded; Fault `transcoder_memory` when the arena can't
 *   grow (retried: closing the open blocks makes room).
 */
export function raise(code: number, byteOffset: number): never {
  const message = MESSAGES.get(code);
  if (message !== undefined) throw new Malformed(message, byteOffset);
  if (code === codes.BOUND_EXCEEDED) throw new Exceeded();
  throw new Fault('transcoder_memory', 'here', 'the transcoder has no memory left');
}

/**
 * The shortest text that reads back as `value`: no exponent from 1e-6 up to 1e21, `NaN`, `Infinity`, and
 * `-0`, which JavaScript alone writes as 0. What the collector's exporter writes for a double.
 */
export function doubleText(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}
