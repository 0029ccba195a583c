/** Lists of KeyValues as maps. */
import { boundAttributes } from './bounds.ts';
import { Bytes } from './bytes.ts';
import type { MapColumn } from './column.ts';
import { KEY, KEY_LENGTH, VALUE, VALUE_END, readKeyValue } from './key-value.ts';
import { load32, load8 } from './memory.ts';
import { KEYS_KNOWN, NAMES_SERIES, addKey, beginKeys, nameSeries } from './series.ts';
import { PAIR_SIZE, putPair, sortPairs } from './sort.ts';
import { putValue } from './value.ts';

/** Appends the KeyValue at [p, end) to the open row of a map, in the order they are sent. */
export function putAttribute(p: u32, end: u32, map: MapColumn): void {
  // The usual form, looked at first: key and value, each once, in this order, both shorter than 128 bytes.
  const keyLength: u32 = load8(p + 1);
  const value = p + 2 + keyLength + 2;
  if (load8(p) === 10 && keyLength < 128 && value <= end && load8(value - 2) === 18) {
    const valueLength: u32 = load8(value - 1);
    if (valueLength < 128 && value + valueLength === end) {
      map.putKey(p + 2, keyLength);
      putValue(value, end, map.values);
      return;
    }
  }
  readKeyValue(p, end);
  const valueStart = VALUE;
  const valueEnd = VALUE_END;
  map.putKey(KEY, KEY_LENGTH);
  putValue(valueStart, valueEnd, map.values);
}

/**
 * The attributes of one data point: metrics' tables want them sorted, since the hash of the map is in their
 * key.
 */
export class SortedAttributes {
  private readonly pairs: Bytes = new Bytes(1024);

  begin(): void {
    this.pairs.clear();
  }

  put(p: u32, end: u32): void {
    readKeyValue(p, end);
    putPair(this.pairs, KEY, KEY_LENGTH, VALUE, VALUE_END);
  }

  /** Appends them to the open row of a map. */
  write(map: MapColumn): void {
    boundAttributes(this.pairs.size() / PAIR_SIZE);
    sortPairs(this.pairs, 0);
    const before = map.values.size();
    for (let pair = this.pairs.base; pair < this.pairs.at; pair += PAIR_SIZE) {
      map.putKey(load32(pair), load32(pair + 4));
      putValue(load32(pair + 8), load32(pair + 12), map.values);
    }
    if (NAMES_SERIES) this.nameSeries(map, before);
  }

  /** The point's series, once its attributes are appended; the values had this size before. */
  private nameSeries(map: MapColumn, before: u32): void {
    const count: u32 = this.pairs.size() / PAIR_SIZE;
    if (KEYS_KNOWN !== count || !map.repeatsKeys(count)) {
      beginKeys(count);
      for (let pair = this.pairs.base; pair < this.pairs.at; pair += PAIR_SIZE) {
        addKey(load32(pair), load32(pair + 4));
      }
    }
    nameSeries(map.values.base + before, map.values.size() - before);
  }
}
