/**
 * Requests in forms that protobuf allows and no exporter sends, brought into the usual one: submessages in
 * pieces joined, resource and scope before what they are of, a key before its value, of the members of a
 * oneof only the one that counts. So that nobody else here has to know these forms. Slow, but linear in the
 * bytes.
 */
import type { Signal } from '../model/signal.ts';
import { Sink } from './sink.ts';
import { POS, readLength, readTag, skip } from './wire.ts';

interface Type {
  /** By tag: the messages within. */
  readonly messages: ReadonlyMap<number, () => Type>;
  /** Tags of those that there is one of, and of fields that have to come first. */
  readonly single: ReadonlySet<number>;
  /** Tags of which only the last one that was sent counts. */
  readonly oneof: ReadonlySet<number>;
  /** An array or a list of values: these nest. */
  readonly nests: boolean;
}

interface Description {
  readonly many?: Readonly<Record<number, () => Type>>;
  readonly single?: Readonly<Record<number, (() => Type) | undefined>>;
  readonly oneof?: Readonly<Record<number, (() => Type) | undefined>>;
  readonly nests?: boolean;
}

function type({ many = {}, single = {}, oneof = {}, nests = false }: Description): Type {
  const tags = (fields: object) => Object.keys(fields).map(Number);
  const messages = new Map<number, () => Type>();
  for (const [tag, inner] of Object.entries({ ...many, ...single, ...oneof })) {
    if (inner !== undefined) messages.set(Number(tag), inner);
  }
  return { messages, single: new Set(tags(single)), oneof: new Set(tags(oneof)), nests };
}

const none = undefined;
const ANY: Type = type({
  oneof: { 10: none, 16: none, 24: none, 33: none, 42: () => VALUES, 50: () => LIST, 58: none },
});
const VALUES: Type = type({ many: { 10: () => ANY }, nests: true });
const LIST: Type = type({ many: { 10: () => PAIR }, nests: true });
const PAIR: Type = type({ single: { 10: none, 18: () => ANY } });

const attributes = (tag: number) => type({ many: { [tag]: () => PAIR } });
const STATUS = type({ single: { 18: none } });
const EVENT = type({ many: { 26: () => PAIR }, single: { 18: none } });
const LINK = attributes(34);
const RESOURCE = attributes(10);
const SCOPE = attributes(26);
const SPAN = type({
  many: { 74: () => PAIR, 90: () => EVENT, 106: () => LINK },
  single: { 42: none, 122: () => STATUS },
});
const LOG = type({ many: { 50: () => PAIR }, single: { 42: () => ANY, 98: none } });
const EXEMPLAR = attributes(58);
const point = (attribute: number, exemplar: number) =>
  type({ many: { [attribute]: () => PAIR, [exemplar]: () => EXEMPLAR } });
function data(of: Type): () => Type {
  const held = type({ many: { 10: () => of } });
  return () => held;
}
const METRIC = type({
  oneof: {
    42: data(point(58, 42)),
    58: data(point(58, 42)),
    74: data(point(74, 66)),
    82: data(point(10, 90)),
    90: data(attributes(58)),
  },
});

function request(record: Type): Type {
  const scope = type({ many: { 18: () => record }, single: { 10: () => SCOPE } });
  const resource = type({ many: { 18: () => scope }, single: { 10: () => RESOURCE } });
  return type({ many: { 10: () => resource } });
}
const REQUESTS: Readonly<Record<Signal, Type>> = {
  traces: request(SPAN),
  logs: request(LOG),
  metrics: request(METRIC),
};

/** Content of a message: where it is in the request. */
type Piece = readonly [start: number, end: number];

/**
 * The same request in its usual form, newly allocated. Values nested deeper than `nestingMax` stay as they
 * are.
 * @throws MALFORMED
 */
export function normalise(signal: Signal, bytes: Uint8Array, nestingMax: number): Uint8Array {
  const sink = new Sink(bytes.length + (bytes.length >>> 3));
  new Normaliser(bytes, nestingMax, sink).message(REQUESTS[signal], [[0, bytes.length]], 0);
  return sink.bytes.subarray(0, sink.at);
}

class Normaliser {
  private readonly bytes: Uint8Array;
  private readonly nestingMax: number;
  private readonly sink: Sink;

  constructor(bytes: Uint8Array, nestingMax: number, sink: Sink) {
    this.bytes = bytes;
    this.nestingMax = nestingMax;
    this.sink = sink;
  }

  message(of: Type, pieces: readonly Piece[], depth: number): void {
    const inner = of.nests ? depth + 1 : depth;
    if (inner > this.nestingMax) {
      for (const [start, end] of pieces) this.sink.raw(this.bytes, start, end);
      return;
    }
    if (of.single.size > 0) this.writeSingle(of, pieces, inner);
    if (of.oneof.size > 0) this.writeWinner(of, pieces, inner);
    this.eachField(pieces, (tag, field, start, end) => {
      if (of.single.has(tag) || of.oneof.has(tag)) return;
      const child = of.messages.get(tag);
      if (child === undefined) this.sink.raw(this.bytes, field, end);
      else this.submessage(tag, child(), [[start, end]], inner);
    });
  }

  private submessage(tag: number, of: Type, pieces: readonly Piece[], depth: number): void {
    const content = this.sink.open(tag);
    this.message(of, pieces, depth);
    this.sink.close(content);
  }

  private writeSingle(of: Type, pieces: readonly Piece[], depth: number): void {
    for (const wanted of of.single) {
      const found: Piece[] = [];
      this.eachField(pieces, (tag, _, start, end) => {
        if (tag === wanted) found.push([start, end]);
      });
      this.writePieces(of, wanted, found, depth);
    }
  }

  private writeWinner(of: Type, pieces: readonly Piece[], depth: number): void {
    let winner = 0;
    let found: Piece[] = [];
    this.eachField(pieces, (tag, _, start, end) => {
      if (!of.oneof.has(tag)) return;
      if (tag !== winner) found = [];
      winner = tag;
      found.push([start, end]);
    });
    this.writePieces(of, winner, found, depth);
  }

  private writePieces(of: Type, tag: number, found: readonly Piece[], depth: number): void {
    const last = found.at(-1);
    if (last === undefined) return;
    const child = of.messages.get(tag);
    if (child !== undefined) this.submessage(tag, child(), found, depth);
    else if ((tag & 7) === 2) this.sink.field(tag, this.bytes, last[0], last[1]);
    else {
      this.sink.varint(tag);
      this.sink.raw(this.bytes, last[0], last[1]);
    }
  }

  /** @param each gets the tag, where the field begins, and its content without tag and length. */
  private eachField(
    pieces: readonly Piece[],
    each: (tag: number, field: number, start: number, end: number) => void,
  ): void {
    for (const [from, end] of pieces) {
      let p = from;
      while (p < end) {
        const field = p;
        const tag = readTag(this.bytes, p, end);
        let start = POS;
        let next = 0;
        if ((tag & 7) === 2) {
          const n = readLength(this.bytes, start, end);
          start = POS;
          next = start + n;
        } else next = skip(this.bytes, start, end, tag);
        each(tag, field, start, next);
        p = next;
      }
    }
  }
}
