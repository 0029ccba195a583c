/** A KeyValue: where its key and its value are. */
import { POS, gather, length, readTag, skip } from './wire.ts';

const KEY_TAG: u32 = 10;
const VALUE_TAG: u32 = 18;

/** What `readKeyValue` found; a missing key or value is empty. */
export let KEY: u32 = 0;
export let KEY_LENGTH: u32 = 0;
export let VALUE: u32 = 0;
export let VALUE_END: u32 = 0;

export function readKeyValue(start: u32, end: u32): void {
  let key = start;
  let keyLength: u32 = 0;
  let value = start;
  let valueEnd = start;
  let pieces: u32 = 0;
  let p = start;
  while (p < end) {
    const tag = readTag(p, end);
    p = POS;
    if (tag === KEY_TAG) {
      keyLength = length(p, end);
      key = POS;
      p = key + keyLength;
    } else if (tag === VALUE_TAG) {
      const n = length(p, end);
      value = POS;
      valueEnd = value + n;
      p = valueEnd;
      pieces++;
    } else {
      p = skip(p, end, tag);
    }
  }
  if (pieces > 1) {
    value = gather(start, end, VALUE_TAG);
    valueEnd = POS;
  }
  KEY = key;
  KEY_LENGTH = keyLength;
  VALUE = value;
  VALUE_END = valueEnd;
}
