/**
 * One client: sends a request until it is acknowledged, the same bytes each time, to whichever gateway. Some
 * of its requests it leaves behind without having heard of them, some it sends to two gateways at once, and
 * some again although they were acknowledged, as clients do whose answer came too late.
 */
import type { Answer } from '../../../bench/send/answer.ts';
import { GrpcConnection } from '../../../bench/send/grpc.ts';
import { HttpSender } from '../../../bench/send/http.ts';
import {
  type Compression, type Protocol, type Sender, compressFrame, formatOf,
} from '../../../bench/send/sender.ts';
import { sleep } from '../../../src/base/clock.ts';
import { SIGNALS, type Signal } from '../../../src/model/signal.ts';
import { type Random, seededRandom } from '../../oracle/random.ts';
import type { Ledger } from './ledger.ts';
import { REQUEST_RECORDS_MAX, encodeRequest } from './records.ts';
import type { Tally } from './tally.ts';
import type { Front } from './world.ts';

/** As many clients of each kind as it stands here. */
export const KINDS: readonly (readonly [Protocol, Compression])[] = [
  ['http-protobuf', 'gzip'],
  ['http-protobuf', 'none'],
  ['grpc', 'none'],
  ['http-protobuf', 'gzip'],
  ['grpc', 'gzip'],
  ['http-json', 'none'],
  ['http-protobuf', 'zstd'],
  ['grpc', 'none'],
];

const SHORT_MS = 300;
const PATIENT_MS = 5_000;
const RETRY_MS_MIN = 30;
const RETRY_MS_MAX = 1_000;
/** Shorter than the window in which a repeat is recognised (world.ts), which counts from any attempt. */
const GIVE_UP_MS = 200_000;
const REPEAT_MS_MAX = 20_000;
const REPEATS_MAX = 20;
const REPEAT_LATE_MS_MAX = 60_000;
const VANISH_MS_MAX = 40;

/** Of all requests. */
const SHARES = { vanish: 0.01, hedge: 0.02, repeat: 0.03, short: 0.1 };

const DAY_SECONDS = 86_400;
/** Where the times of a request's records lie, beside now; and how many in a hundred requests. */
const TIME_SHIFTS: readonly (readonly [number, number])[] = [
  [86, 0],
  [4, -3_600],
  [3, -DAY_SECONDS],
  [3, -5 * DAY_SECONDS],
  [4, 7_200],
];

export interface ClientOptions {
  readonly number: number;
  readonly seed: number;
  readonly fronts: readonly Front[];
  readonly ledger: Ledger;
  readonly tally: Tally;
  /** Resolves when so many further records may be sent; false: it is over. */
  readonly turn: (records: number) => Promise<boolean>;
}

interface Prepared {
  readonly request: number;
  readonly signal: Signal;
  readonly frame: Buffer;
}

export class Client {
  readonly #options: ClientOptions;
  readonly #random: Random;
  readonly #protocol: Protocol;
  readonly #compression: Compression;
  /** By gateway and patience. */
  readonly #senders = new Map<string, Sender>();
  #repeats: { atMs: number; prepared: Prepared }[] = [];
  readonly #aside = new Set<Promise<unknown>>();

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed * 1_009 + options.number);
    const [protocol, compression] = KINDS[options.number % KINDS.length] as (typeof KINDS)[number];
    this.#protocol = protocol;
    this.#compression = compression;
  }

  get name(): string {
    return `client ${this.#options.number} (${this.#protocol}, ${this.#compression})`;
  }

  /** Resolves when there is no turn any more and the last request is acknowledged, or given up. */
  async run(): Promise<void> {
    for (;;) {
      const records = recordsOf(this.#random);
      if (!(await this.#options.turn(records))) break;
      await this.#carry(this.#prepare(records));
      await this.#repeatDue();
    }
    await Promise.all(this.#aside);
    for (const sender of this.#senders.values()) sender.close();
  }

  #prepare(records: number): Prepared {
    const { number, ledger, tally } = this.#options;
    const signal = this.#random.pick(SIGNALS);
    const request = ledger.begin(signal, number, records, tally.nowMs);
    const seconds = Math.floor(Date.now() / 1000) + timeShiftOf(this.#random);
    const format = formatOf(this.#protocol);
    const contents = { signal, format, request, records, service: `client-${number}`, seconds };
    return { request, signal, frame: compressFrame(encodeRequest(contents), this.#compression) };
  }

  async #carry(prepared: Prepared): Promise<void> {
    const { ledger, tally } = this.#options;
    const random = this.#random;
    const vanishes = random.chance(SHARES.vanish);
    const hedges = random.chance(SHARES.hedge);
    const untilMs = tally.nowMs + GIVE_UP_MS;
    for (let attempt = 0; ; attempt++) {
      if (attempt > 0) tally.resends += 1;
      const gateway = random.int(this.#options.fronts.length);
      const answers = [this.#send(prepared, gateway, random.chance(SHARES.short))];
      if (hedges && attempt === 0) answers.push(this.#hedge(prepared, gateway));
      if (vanishes && attempt === 0) this.#leave(gateway, random.int(VANISH_MS_MAX));
      const all = await Promise.all(answers);
      if (all.some((answer) => answer.kind === 'acknowledged' && answer.rejected === 0)) {
        return this.#acknowledged(prepared);
      }
      const answer = all[0] as Answer;
      if (vanishes) return ledger.giveUp(prepared.request, tally.nowMs);
      if (!mayPass(answer)) return this.#refused(prepared, answer);
      if (tally.nowMs > untilMs) {
        tally.gaveUp += 1;
        return ledger.giveUp(prepared.request, tally.nowMs);
      }
      await sleep(delayOf(answer, attempt, random));
    }
  }

  #acknowledged(prepared: Prepared): void {
    const { ledger, tally } = this.#options;
    ledger.acknowledge(prepared.request, tally.nowMs);
    tally.acknowledged();
    if (!this.#random.chance(SHARES.repeat) || this.#repeats.length >= REPEATS_MAX) return;
    this.#repeats.push({ atMs: tally.nowMs + this.#random.int(REPEAT_MS_MAX), prepared });
  }

  #refused({ request }: Prepared, answer: Answer): void {
    const { ledger, tally } = this.#options;
    tally.refusedForGood += 1;
    const rejected = answer.kind === 'acknowledged' ? `, ${answer.rejected} rejected` : '';
    tally.saw(`for good: ${answer.code}${rejected}`, answer.message);
    ledger.giveUp(request, tally.nowMs);
  }

  /** The same request at the same time at another gateway. */
  #hedge(prepared: Prepared, gateway: number): Promise<Answer> {
    const { fronts, tally } = this.#options;
    tally.hedges += 1;
    return this.#send(prepared, (gateway + 1) % fronts.length, false);
  }

  /** Closes the connection under the request, which is then left to its fate. */
  #leave(gateway: number, afterMs: number): void {
    this.#options.tally.vanished += 1;
    const left = sleep(afterMs).then(() => {
      for (const short of [false, true]) this.#senders.get(keyOf(gateway, short))?.close();
    });
    this.#keep(left);
  }

  /** Once more what was acknowledged. Whatever comes of it: it must not be there twice. */
  async #repeatDue(): Promise<void> {
    const { tally, fronts } = this.#options;
    const due = this.#repeats.filter(({ atMs }) => atMs <= tally.nowMs);
    if (due.length === 0) return;
    this.#repeats = this.#repeats.filter((repeat) => !due.includes(repeat));
    for (const { atMs, prepared } of due) {
      // Its turn came while a request was stuck: no repeat any more that anybody promised to recognise.
      if (tally.nowMs > atMs + REPEAT_LATE_MS_MAX) continue;
      tally.repeats += 1;
      await this.#send(prepared, this.#random.int(fronts.length), false);
    }
  }

  async #send({ request, signal, frame }: Prepared, gateway: number, short: boolean): Promise<Answer> {
    const { ledger, tally } = this.#options;
    ledger.attempt(request);
    const answer = await this.#senderTo(gateway, short).send(signal, frame);
    tally.saw(answer.code, answer.message);
    return answer;
  }

  #senderTo(gateway: number, short: boolean): Sender {
    const key = keyOf(gateway, short);
    const known = this.#senders.get(key);
    if (known !== undefined) return known;
    const front = this.#options.fronts[gateway] as Front;
    const { port } = this.#protocol === 'grpc' ? front.grpc : front.http;
    const options = {
      target: { host: '127.0.0.1', port },
      format: formatOf(this.#protocol),
      compression: this.#compression,
      timeoutMs: short ? SHORT_MS : PATIENT_MS,
    };
    const sender =
      this.#protocol === 'grpc' ? new GrpcConnection(options).sender() : new HttpSender(options);
    this.#senders.set(key, sender);
    return sender;
  }

  #keep(promise: Promise<unknown>): void {
    this.#aside.add(promise);
    void promise.finally(() => this.#aside.delete(promise));
  }
}

function keyOf(gateway: number, short: boolean): string {
  return `${gateway} ${short}`;
}

/** What may pass is sent again, and what nobody knows the outcome of. */
function mayPass(answer: Answer): boolean {
  return answer.kind === 'unanswered' || (answer.kind === 'refused' && answer.retryable);
}

/** Half of what is asked for, at most a second: the storm shall not wait for its clients. */
function delayOf(answer: Answer, attempt: number, random: Random): number {
  const asked = answer.kind === 'refused' ? answer.retryAfterMs : undefined;
  const wanted = asked ?? RETRY_MS_MIN * 2 ** Math.min(attempt, 10);
  return Math.min(wanted, RETRY_MS_MAX) * (0.5 + random.int(1_000) / 2_000);
}

/** Some with a handful of records, most with a hundred or two, some with as many as there may be. */
function recordsOf(random: Random): number {
  const kind = random.int(10);
  if (kind < 2) return 1 + random.int(10);
  if (kind < 7) return 10 + random.int(240);
  return 200 + random.int(REQUEST_RECORDS_MAX - 199);
}

function timeShiftOf(random: Random): number {
  let left = random.int(100);
  for (const [share, seconds] of TIME_SHIFTS) {
    left -= share;
    if (left < 0) return seconds;
  }
  return 0;
}
