/** One Metric of opentelemetry.proto.metrics.v1: what holds for all of its points, and where they are. */
import { EXPONENTIAL_DATA, HISTOGRAM_DATA, NUMBER_DATA, SUMMARY_DATA, check } from './check.ts';
import { HIGH, POS, gather, length, readTag, skip, varintWithin } from './wire.ts';

// The members of Metric.data, by their tags.
export const GAUGE: u32 = 42;
export const SUM: u32 = 58;
export const HISTOGRAM: u32 = 74;
export const EXPONENTIAL_HISTOGRAM: u32 = 82;
export const SUMMARY: u32 = 90;

/** In each of them: the points. */
export const POINT: u32 = 10;

/** What `check` calls the member with a tag. */
function dataKind(tag: u32): u32 {
  switch (tag) {
    case HISTOGRAM:
      return HISTOGRAM_DATA;
    case EXPONENTIAL_HISTOGRAM:
      return EXPONENTIAL_DATA;
    case SUMMARY:
      return SUMMARY_DATA;
    default:
      return NUMBER_DATA;
  }
}

let generations: u32 = 0;

export class Metric {
  /** Different for each message ever read. */
  generation: u32 = 0;
  name: u32 = 0;
  nameLength: u32 = 0;
  description: u32 = 0;
  descriptionLength: u32 = 0;
  unit: u32 = 0;
  unitLength: u32 = 0;
  /** The member of `data` that is set, 0 for none, and where it is. */
  kind: u32 = 0;
  data: u32 = 0;
  dataEnd: u32 = 0;
  temporality: u32 = 0;
  monotonic: u32 = 0;
  private firstPiece: u32 = 0;
  private inPieces: boolean = false;

  read(start: u32, end: u32): void {
    generations += 1;
    this.generation = generations;
    this.nameLength = 0;
    this.descriptionLength = 0;
    this.unitLength = 0;
    this.kind = 0;
    this.inPieces = false;
    let p = start;
    while (p < end) {
      const field = p;
      const tag = readTag(p, end);
      p = POS;
      if ((tag & 7) !== 2) {
        p = skip(p, end, tag);
        continue;
      }
      const n = length(p, end);
      p = POS + n;
      this.readField(tag, p - n, n, field);
    }
    if (this.inPieces) {
      this.data = gather(this.firstPiece, end, this.kind);
      this.dataEnd = POS;
    }
    this.readHead();
  }

  /**
   * `data` is a oneof: the last member wins, and pieces of it are merged unless another one stood between
   * them.
   */
  private readField(tag: u32, at: u32, n: u32, field: u32): void {
    switch (tag) {
      case 10:
        this.name = at;
        this.nameLength = n;
        break;
      case 18:
        this.description = at;
        this.descriptionLength = n;
        break;
      case 26:
        this.unit = at;
        this.unitLength = n;
        break;
      case GAUGE:
      case SUM:
      case HISTOGRAM:
      case EXPONENTIAL_HISTOGRAM:
      case SUMMARY:
        if (this.kind !== 0) check(this.data, this.dataEnd, dataKind(this.kind));
        this.inPieces = this.kind === tag;
        if (!this.inPieces) this.firstPiece = field;
        this.kind = tag;
        this.data = at;
        this.dataEnd = at + n;
        break;
      default:
        break;
    }
  }

  /** What stands beside the points. */
  private readHead(): void {
    this.temporality = 0;
    this.monotonic = 0;
    if (this.kind === 0) return;
    const end = this.dataEnd;
    const hasTemporality = this.kind !== GAUGE && this.kind !== SUMMARY;
    let p = this.data;
    while (p < end) {
      const tag = readTag(p, end);
      p = POS;
      if (tag === 16 && hasTemporality) {
        this.temporality = varintWithin(p, end);
        p = POS;
      } else if (tag === 24 && this.kind === SUM) {
        const low = varintWithin(p, end);
        this.monotonic = (low | HIGH) === 0 ? 0 : 1;
        p = POS;
      } else {
        p = skip(p, end, tag);
      }
    }
  }
}
