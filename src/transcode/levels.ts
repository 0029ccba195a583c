/**
 * The resource and the scope of the records at hand, taken apart once per message however many blocks need
 * them. A block takes them over with its first record of them: `generation` tells whether it has.
 */
import { boundAttributes } from './bounds.ts';
import { Bytes } from './bytes.ts';
import { TEXT_SERVICE_NAME, TEXT_TENANT } from './codes.ts';
import { KEY, KEY_LENGTH, VALUE, VALUE_END, readKeyValue } from './key-value.ts';
import { alloc, equal, load32 } from './memory.ts';
import type { LowRuns, MapRuns } from './runs.ts';
import { addPair, beginSum } from './series.ts';
import { crc32 } from './shard-key.ts';
import { REJECTION, beginRecord } from './tally.ts';
import { ZERO, textAt, textLength } from './texts.ts';
import { putValue } from './value.ts';
import { POS, length, readTag, skip, varint, varintWithin } from './wire.ts';

const EQUALS_SIGN: u32 = 61;

/** `key=value`, for its checksum. */
const pair = new Bytes(256);

/** Attributes of a level: where the keys are, and the texts of the values. */
export class LevelAttributes {
  private readonly keys: Bytes = new Bytes(1024);
  readonly values: Bytes = new Bytes(1024);

  begin(): void {
    this.keys.clear();
    this.values.clear();
  }

  put(p: u32, end: u32): void {
    readKeyValue(p, end);
    this.keys.put32(KEY);
    this.keys.put32(KEY_LENGTH);
    putValue(VALUE, VALUE_END, this.values);
  }

  count(): u32 {
    return this.keys.size() >>> 3;
  }

  /** Appends a pair with the key in a slot of the texts. */
  putOwn(slot: u32, value: Bytes): void {
    this.keys.put32(textAt(slot));
    this.keys.put32(textLength(slot));
    this.values.putText(value.base, value.size());
  }

  /** Takes the last pair back, before which the values had this size. */
  dropLast(valuesSize: u32): void {
    this.keys.cut(this.keys.size() - 8);
    this.values.cut(valuesSize);
  }

  /** Whether the key of the last pair is the one in a slot of the texts. */
  lastKeyIs(slot: u32): boolean {
    const n = load32(this.keys.at - 4);
    return n === textLength(slot) && equal(load32(this.keys.at - 8), textAt(slot), n);
  }

  /** The sum of the checksums of `key=value`, which is the key by which rows are shared out (sharding.ts). */
  checksum(): u32 {
    let sum: u32 = 0;
    let value = this.values.base;
    for (let key = this.keys.base; key < this.keys.at; key += 8) {
      const n = varint(value);
      const text = POS;
      pair.clear();
      pair.putRaw(load32(key), load32(key + 4));
      pair.put8(EQUALS_SIGN);
      pair.putRaw(text, n);
      sum = (sum + crc32(pair.base, pair.size())) >>> 0;
      value = text + n;
    }
    return sum;
  }

  /** Sums up what they mean for series, in the 8 bytes at `sum`. */
  sumUp(sum: u32): void {
    beginSum(sum);
    let value = this.values.base;
    for (let key = this.keys.base; key < this.keys.at; key += 8) {
      const n = varint(value);
      const end = POS + n;
      addPair(sum, load32(key), load32(key + 4), value, end - value);
      value = end;
    }
  }

  /** Appends them as the map of a new run; how many bytes it takes in each row. */
  write(runs: MapRuns): u32 {
    for (let key = this.keys.base; key < this.keys.at; key += 8) runs.putKey(load32(key), load32(key + 4));
    return runs.endRun(this.values.base, this.values.size());
  }
}

let generations: u32 = 0;

/** A Resource message, and the schema URL beside it. */
export class Resource {
  readonly attributes: LevelAttributes = new LevelAttributes();
  /** Whose it is, which stands in its attributes; empty: nobody's. */
  readonly tenant: Bytes = new Bytes(64);
  schemaUrl: u32 = 0;
  schemaUrlLength: u32 = 0;
  /** Different for each message ever read. */
  generation: u32 = 0;
  /** Its attributes are nested too deep: no record of it can be stored. */
  tooDeep: boolean = false;
  /**
   * Where the text of `service.name` is within the values (with its length before it); nowhere while the end
   * is 0.
   */
  private serviceAt: u32 = 0;
  private serviceEnd: u32 = 0;
  private knownKey: u32 = 0;
  private knowsKey: boolean = false;
  private readonly knownSum: u32 = alloc(8);
  private knowsSum: boolean = false;
  /** Attributes that the sender had under the tenant's key. */
  private replaced: u32 = 0;

  read(start: u32, end: u32): void {
    generations += 1;
    this.generation = generations;
    this.attributes.begin();
    this.knowsKey = false;
    this.knowsSum = false;
    this.replaced = 0;
    this.serviceAt = 0;
    this.serviceEnd = 0;
    beginRecord();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === 10) {
        const n = length(p, end);
        p = POS + n;
        this.putAttribute(p - n, p);
      } else {
        p = skip(p, end, tag);
      }
    }
    this.tooDeep = REJECTION !== 0;
    boundAttributes(this.attributes.count() + this.replaced);
    if (this.tenant.size() !== 0) this.attributes.putOwn(TEXT_TENANT, this.tenant);
  }

  /**
   * The first `service.name` is the one that counts. What a sender says of the tenant is read like the
   * others, and then left out: nobody speaks for another.
   */
  private putAttribute(p: u32, end: u32): void {
    const before = this.attributes.values.size();
    this.attributes.put(p, end);
    if (this.tenant.size() !== 0 && this.attributes.lastKeyIs(TEXT_TENANT)) {
      this.attributes.dropLast(before);
      this.replaced += 1;
      return;
    }
    if (this.serviceEnd !== 0 || !this.attributes.lastKeyIs(TEXT_SERVICE_NAME)) return;
    this.serviceAt = before;
    this.serviceEnd = this.attributes.values.size();
  }

  /** The key by which its rows are shared out. */
  key(): u32 {
    if (!this.knowsKey) {
      this.knownKey = this.attributes.checksum();
      this.knowsKey = true;
    }
    return this.knownKey;
  }

  /** Where the sum of its attributes for series is, 8 bytes. */
  sum(): u32 {
    if (!this.knowsSum) {
      this.attributes.sumUp(this.knownSum);
      this.knowsSum = true;
    }
    return this.knownSum;
  }

  /** Appends ServiceName, empty when the resource doesn't say, for a new run. */
  writeService(runs: LowRuns): u32 {
    if (this.serviceEnd === 0) return runs.put(ZERO, 0);
    const values = this.attributes.values.base;
    const n = length(values + this.serviceAt, values + this.serviceEnd);
    return runs.put(POS, n);
  }
}

/** An InstrumentationScope message, and the schema URL beside it. */
export class Scope {
  readonly attributes: LevelAttributes = new LevelAttributes();
  schemaUrl: u32 = 0;
  schemaUrlLength: u32 = 0;
  generation: u32 = 0;
  tooDeep: boolean = false;
  name: u32 = 0;
  nameLength: u32 = 0;
  version: u32 = 0;
  versionLength: u32 = 0;
  droppedAttributes: u32 = 0;

  read(start: u32, end: u32): void {
    generations += 1;
    this.generation = generations;
    this.attributes.begin();
    this.nameLength = 0;
    this.versionLength = 0;
    this.droppedAttributes = 0;
    beginRecord();
    let p = start;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      switch (tag) {
        case 10:
          this.nameLength = length(p, end);
          this.name = POS;
          p = this.name + this.nameLength;
          break;
        case 18:
          this.versionLength = length(p, end);
          this.version = POS;
          p = this.version + this.versionLength;
          break;
        case 26: {
          const n = length(p, end);
          p = POS + n;
          this.attributes.put(p - n, p);
          break;
        }
        case 32:
          this.droppedAttributes = varintWithin(p, end);
          p = POS;
          break;
        default:
          p = skip(p, end, tag);
      }
    }
    this.tooDeep = REJECTION !== 0;
    boundAttributes(this.attributes.count());
  }
}
