/**
 * The load itself: as many requests at once as there are senders, at a fixed rate or as fast as answers come.
 * At a fixed rate each request has a moment when it is due, and its latency counts from there: a server that
 * stalls makes the requests behind the stall late, and that belongs into the figures (coordinated omission).
 */
import { sleep, tickMs } from '../src/base/clock.ts';
import type { Signal } from '../src/model/signal.ts';
import { Latency } from './measure/latency.ts';
import type { Answer } from './send/answer.ts';
import { Ledger } from './send/ledger.ts';
import { type Compression, compressFrame, type Sender } from './send/sender.ts';
import { FRAME_HEAD_BYTES, type Template } from './template.ts';

export interface LoadOptions {
  readonly compression: Compression;
  /** Items a second of all signals together; undefined: as fast as it goes. */
  readonly rate: number | undefined;
  /** No request begins later than this. */
  readonly seconds: number;
  /** No request begins once so many items were sent. */
  readonly itemsMax: number;
  /** How often a request is sent again, with the same bytes, when the answer was retryable or missing. */
  readonly retries: number;
}

/** Everything of one signal. */
export class Lane {
  readonly signal: Signal;
  readonly ledger = new Ledger();
  /** Templates that no request in flight uses, longest unused first. */
  readonly idle: Template[];
  /** Begun so far: the lane with the fewest is next, so that all signals get the same number of items. */
  itemsBegun = 0;

  /** @param templates at least as many as there are senders */
  constructor(signal: Signal, templates: readonly Template[]) {
    this.signal = signal;
    this.idle = [...templates];
  }
}

export interface Trouble {
  count: number;
  /** What the server said the last time. */
  message: string;
}

/** Sums since the start; read at any time. */
export class LoadStatistics {
  requests = 0;
  acknowledgedRequests = 0;
  acknowledgedItems = 0;
  /** As sent, so after compression. */
  acknowledgedBytes = 0;
  rejectedItems = 0;
  retries = 0;
  /** Every answer that was no acknowledgement, by its code, retried or not. */
  readonly troubles = new Map<string, Trouble>();
  readonly latency = new Latency();
  /** The same since whoever shows the progress reset it. */
  readonly recent = new Latency();
  startedAtMs = 0;
  /** When the last answer came. */
  endedAtMs = 0;
}

/** A timer of Node fires up to this much late; that is not the server's doing. */
const TIMER_SLACK_MS = 1;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 5_000;

interface Ticket {
  readonly lane: Lane;
  readonly template: Template;
  readonly request: number;
  /** undefined: now. */
  readonly dueMs: number | undefined;
}

export class Load {
  readonly statistics = new LoadStatistics();
  readonly lanes: readonly Lane[];
  readonly #options: LoadOptions;
  #itemsBegun = 0;
  #stopped = false;

  constructor(lanes: readonly Lane[], options: LoadOptions) {
    this.lanes = lanes;
    this.#options = options;
  }

  /** Resolves when the last request is answered or given up. The senders stay open. */
  async run(senders: readonly Sender[]): Promise<void> {
    this.statistics.startedAtMs = tickMs();
    await Promise.all(senders.map((sender) => this.#work(sender)));
    this.statistics.endedAtMs = tickMs();
  }

  /** Begins no further request. */
  stop(): void {
    this.#stopped = true;
  }

  async #work(sender: Sender): Promise<void> {
    for (;;) {
      const ticket = this.#next();
      if (ticket === undefined) return;
      await this.#carry(sender, ticket);
      ticket.lane.idle.push(ticket.template);
    }
  }

  #next(): Ticket | undefined {
    const { rate, seconds, itemsMax } = this.#options;
    const { startedAtMs } = this.statistics;
    const dueMs = rate === undefined ? undefined : startedAtMs + (this.#itemsBegun / rate) * 1000;
    const over = (dueMs ?? tickMs()) - startedAtMs >= seconds * 1000 || this.#itemsBegun >= itemsMax;
    if (over || this.#stopped) return undefined;
    const lane = this.lanes.reduce((one, other) => (other.itemsBegun < one.itemsBegun ? other : one));
    const template = lane.idle.shift();
    if (template === undefined) return undefined;
    lane.itemsBegun += template.items;
    this.#itemsBegun += template.items;
    this.statistics.requests++;
    return { lane, template, request: lane.ledger.issue(template.items), dueMs };
  }

  async #carry(sender: Sender, ticket: Ticket): Promise<void> {
    const fromMs = await beginOf(ticket.dueMs);
    ticket.template.stamp(ticket.request);
    const frame = compressFrame(ticket.template.frame, this.#options.compression);
    // Once an attempt had no answer, a refusal of the next one doesn't tell whether the first is stored.
    let unknown = false;
    for (let attempt = 0; ; attempt++) {
      const answer = await sender.send(ticket.lane.signal, frame);
      if (answer.kind === 'acknowledged') return this.#acknowledged(ticket, frame, answer, tickMs() - fromMs);
      this.#count(answer.code, answer.message);
      unknown ||= answer.kind === 'unanswered';
      const retryable = answer.kind === 'unanswered' || answer.retryable;
      if (!retryable || attempt >= this.#options.retries) {
        if (!unknown) ticket.lane.ledger.refuse(ticket.request);
        return;
      }
      this.statistics.retries++;
      await sleep(retryDelayMs(answer, attempt));
    }
  }

  #acknowledged(ticket: Ticket, frame: Buffer, answer: Answer & { kind: 'acknowledged' }, ms: number): void {
    const { statistics } = this;
    ticket.lane.ledger.acknowledge(ticket.request, answer.rejected);
    statistics.acknowledgedRequests++;
    statistics.acknowledgedItems += ticket.template.items - answer.rejected;
    statistics.acknowledgedBytes += frame.length - FRAME_HEAD_BYTES;
    statistics.rejectedItems += answer.rejected;
    statistics.latency.record(ms);
    statistics.recent.record(ms);
    if (answer.message !== '') this.#count('partial success', answer.message);
  }

  #count(code: string, message: string): void {
    const trouble = this.statistics.troubles.get(code) ?? { count: 0, message };
    trouble.count++;
    trouble.message = message;
    this.statistics.troubles.set(code, trouble);
  }
}

/** Waits until the request is due, and gives the moment from which its latency counts. */
async function beginOf(dueMs: number | undefined): Promise<number> {
  if (dueMs === undefined) return tickMs();
  const waitMs = dueMs - tickMs();
  // Behind the schedule: all senders were busy with slow answers.
  if (waitMs <= 0) return dueMs;
  await sleep(waitMs);
  return Math.min(tickMs(), dueMs + TIMER_SLACK_MS);
}

/** What the server asked for, else exponential; with jitter, as clients do. */
function retryDelayMs(answer: Answer, attempt: number): number {
  const asked = answer.kind === 'refused' ? answer.retryAfterMs : undefined;
  const baseMs = asked ?? Math.min(RETRY_MS_MIN * 2 ** attempt, RETRY_MS_MAX);
  return baseMs * (1 + Math.random() * 0.2);
}
