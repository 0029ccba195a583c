/** A request encoded once and sent many times, each time with ids and times of its own written in place. */
import { REQUESTS } from '../proto/fields.ts';
import { assert } from '../src/base/errors.ts';
import type { Signal } from '../src/model/signal.ts';
import { encodeJson } from './corpus/json.ts';
import type { Mark, Tree } from './corpus/slot.ts';
import { pointOffsetNs, RUN_KEY, Scrambler, type Window } from './identity.ts';
import { encodeProtobuf } from './protobuf.ts';

export type Format = 'protobuf' | 'json';

/** Room before the body, where gRPC writes its flag and length. */
export const FRAME_HEAD_BYTES = 5;

/** How far requests are apart in time, ns: odd, so that digits and bytes differ from request to request. */
const REQUEST_STEP_NS = 1_000_003_777;
/** So many requests until the steps begin anew: keeps the product exact in a double. */
const REQUEST_STEPS_MAX = 8_000_000;

export class Template {
  readonly signal: Signal;
  readonly items: number;
  /** FRAME_HEAD_BYTES of room, then the body. */
  readonly frame: Buffer;
  /** The same memory without the room. */
  readonly body: Buffer;
  readonly #run: number;
  readonly #window: Window;
  readonly #windowSeconds: number;
  readonly #windowLow: number;
  readonly #windowHigh: number;
  readonly #view: DataView;
  readonly #json: boolean;
  readonly #scrambler = new Scrambler();
  readonly #traces: Places;
  readonly #spans: Places;
  readonly #times: Places;
  readonly #points: Places;

  /**
   * @param tree an Export<Signal>ServiceRequest in the shape of OTLP/JSON, with slots
   * @param items how many spans, log records or data points it holds
   */
  constructor(signal: Signal, format: Format, tree: Tree, items: number, run: number, window: Window) {
    const encode = format === 'json' ? encodeJson : encodeProtobuf;
    const { bytes, marks } = encode(REQUESTS[signal], tree);
    this.signal = signal;
    this.items = items;
    this.frame = Buffer.alloc(FRAME_HEAD_BYTES + bytes.length);
    this.frame.set(bytes, FRAME_HEAD_BYTES);
    this.body = this.frame.subarray(FRAME_HEAD_BYTES);
    this.#view = new DataView(this.body.buffer, this.body.byteOffset, this.body.length);
    this.#json = format === 'json';
    this.#run = run;
    this.#window = window;
    this.#windowSeconds = Number(window.startNs / 1_000_000_000n);
    assert(window.startNs % 1_000_000_000n === 0n, 'a window begins at a whole second');
    this.#windowLow = Number(window.startNs & 0xffffffffn);
    this.#windowHigh = Number(window.startNs >> 32n);
    this.#traces = placesOf(marks, 'trace');
    this.#spans = placesOf(marks, 'span');
    this.#times = placesOf(marks, 'time');
    this.#points = placesOf(marks, 'point');
  }

  /**
   * Makes the bytes those of this request. Whoever sends them must be done with the bytes before the next
   * call.
   * @param request numbered from 1 within the run and signal
   */
  stamp(request: number): void {
    this.#stampTraces(request);
    this.#stampSpans(request);
    this.#stampTimes(request);
    this.#stampPoints(request);
  }

  #stampTraces(request: number): void {
    const { positions, values } = this.#traces;
    const scrambler = this.#scrambler;
    const hex = this.#json;
    let trace = 0;
    let word0 = 0;
    let word1 = 0;
    let word2 = 0;
    let word3 = 0;
    for (let index = 0; index < positions.length; index++) {
      if (values[index] !== trace) {
        trace = values[index] as number;
        scrambler.scramble(request, trace, this.#run);
        word2 = scrambler.first;
        word3 = scrambler.second;
        scrambler.scramble(this.#run, word2, RUN_KEY);
        word0 = scrambler.first;
        word1 = scrambler.second;
      }
      const position = positions[index] as number;
      if (hex) {
        this.#writeHex(position, word0);
        this.#writeHex(position + 8, word1);
        this.#writeHex(position + 16, word2);
        this.#writeHex(position + 24, word3);
      } else {
        this.#view.setUint32(position, word0);
        this.#view.setUint32(position + 4, word1);
        this.#view.setUint32(position + 8, word2);
        this.#view.setUint32(position + 12, word3);
      }
    }
  }

  #stampSpans(request: number): void {
    const { positions, values } = this.#spans;
    const scrambler = this.#scrambler;
    const hex = this.#json;
    for (let index = 0; index < positions.length; index++) {
      const position = positions[index] as number;
      scrambler.scramble(request, values[index] as number, this.#run);
      if (hex) {
        this.#writeHex(position, scrambler.first);
        this.#writeHex(position + 8, scrambler.second);
      } else {
        this.#view.setUint32(position, scrambler.first);
        this.#view.setUint32(position + 4, scrambler.second);
      }
    }
  }

  /** Templates use the first half of the window, requests shift them by up to another half. */
  #stampTimes(request: number): void {
    const { positions, values } = this.#times;
    const shiftNs = ((request % REQUEST_STEPS_MAX) * REQUEST_STEP_NS) % Math.floor(this.#window.lengthNs / 2);
    for (let index = 0; index < positions.length; index++) {
      this.#writeTime(positions[index] as number, (values[index] as number) + shiftNs);
    }
  }

  #stampPoints(request: number): void {
    const { positions, values } = this.#points;
    for (let index = 0; index < positions.length; index++) {
      const offsetNs = pointOffsetNs(request, values[index] as number, this.#window);
      this.#writeTime(positions[index] as number, offsetNs);
    }
  }

  /** In two halves of 32 bits: a bigint per time would cost more than all the rest. */
  #writeTime(position: number, offsetNs: number): void {
    if (this.#json) {
      const seconds = Math.floor(offsetNs / 1e9);
      this.#writeDigits(position, 10, this.#windowSeconds + seconds);
      this.#writeDigits(position + 10, 9, offsetNs - seconds * 1e9);
      return;
    }
    const low = this.#windowLow + (offsetNs % 4294967296);
    const carry = low >= 4294967296 ? 1 : 0;
    this.#view.setUint32(position, low, true);
    this.#view.setUint32(position + 4, this.#windowHigh + Math.floor(offsetNs / 4294967296) + carry, true);
  }

  #writeHex(position: number, word: number): void {
    const body = this.body;
    for (let shift = 28; shift >= 0; shift -= 4) {
      const digit = (word >>> shift) & 15;
      body[position++] = digit < 10 ? 48 + digit : 87 + digit;
    }
  }

  #writeDigits(position: number, count: number, value: number): void {
    let rest = value;
    for (let index = position + count - 1; index >= position; index--) {
      const tens = Math.floor(rest / 10);
      this.body[index] = 48 + rest - tens * 10;
      rest = tens;
    }
  }
}

/** Positions of one kind of slot and their numbers, sorted by number so that equal ones are neighbours. */
interface Places {
  readonly positions: Int32Array;
  readonly values: Float64Array;
}

function placesOf(marks: readonly Mark[], kind: Mark['slot']['slot']): Places {
  const places: { position: number; value: number }[] = [];
  for (const { slot, position } of marks) {
    if (slot.slot !== kind) continue;
    places.push({ position, value: slot.slot === 'time' ? slot.offsetNs : slot.index });
  }
  places.sort((one, other) => one.value - other.value);
  return {
    positions: Int32Array.from(places, (place) => place.position),
    values: Float64Array.from(places, (place) => place.value),
  };
}
