/**
 * Load that doesn't wait for the server: so many requests a second are due, whatever became of those before.
 * Each connection is a client: it has one request under way, and one that is refused either honours the delay
 * that it is given, or sends the next at once. What is due while all of them are busy or waiting isn't sent.
 */
import { randomInt } from 'node:crypto';
import { sleep, tickMs } from '../../../src/base/clock.ts';
import { createCorpus } from '../../corpus.ts';
import { windowOfToday } from '../../identity.ts';
import { Latency } from '../../measure/latency.ts';
import type { Answer } from '../../send/answer.ts';
import { GrpcConnection } from '../../send/grpc.ts';
import { HttpSender } from '../../send/http.ts';
import { type Audit, Ledger } from '../../send/ledger.ts';
import type { Sender, Target } from '../../send/sender.ts';
import type { Template } from '../../template.ts';
import { auditOf } from './audit.ts';

const TICK_MS = 5;
/** A connection that wasn't used for so long is opened anew: the server cuts it soon, perhaps in this moment. */
const IDLE_MS_MAX = 4_000;
const SIGNAL = 'traces';

export interface OfferedOptions {
  readonly target: Target;
  readonly protocol: 'grpc' | 'http-protobuf';
  /** At most: opened as they are needed. */
  readonly connections: number;
  readonly requestItems: number;
  readonly seed: number;
  readonly timeoutMs: number;
  /** Whether a client that is given a delay waits for so long. */
  readonly honour: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Sums since the start, or since they were taken last. */
export class OfferedCounts {
  /** Due, sent or not. */
  offered = 0;
  sent = 0;
  accepted = 0;
  acceptedItems = 0;
  /** Refused, to come back, and told when. */
  delayed = 0;
  /** To come back, and not told when. */
  undelayed = 0;
  /** Refused so that clients throw their data away. */
  final = 0;
  unanswered = 0;
  readonly codes = new Map<string, number>();
  /** Of what was accepted, from when it was sent. */
  readonly latency = new Latency();
}

interface Client {
  readonly sender: Sender;
  readonly template: Template;
  busy: boolean;
  waitsUntilMs: number;
  /** When it was answered last. */
  idleFromMs: number;
}

export class Offered {
  readonly ledger = new Ledger();
  counts = new OfferedCounts();
  readonly #options: OfferedOptions;
  readonly #run = randomInt(1, 2 ** 32 - 1);
  readonly #window = windowOfToday(Date.now());
  readonly #clients: Client[];
  #next = 0;

  constructor(options: OfferedOptions) {
    this.#options = options;
    const { target, protocol, connections, requestItems, seed, timeoutMs, headers = {} } = options;
    const sending = { target, format: 'protobuf', compression: 'none', timeoutMs, headers } as const;
    const corpus = { signal: SIGNAL, format: 'protobuf', seed, run: this.#run, window: this.#window } as const;
    const templates = createCorpus({ ...corpus, requests: connections, requestItems });
    this.#clients = templates.map((template) => ({
      sender: protocol === 'grpc' ? new GrpcConnection(sending).sender() : new HttpSender(sending),
      template,
      busy: false,
      waitsUntilMs: 0,
      idleFromMs: 0,
    }));
  }

  /** @returns the counts since the last time */
  take(): OfferedCounts {
    const taken = this.counts;
    this.counts = new OfferedCounts();
    return taken;
  }

  /** Resolves when the time is over and what was sent is answered. @param itemsPerSecond that are due */
  async run(itemsPerSecond: number, seconds: number): Promise<void> {
    const requestsPerMs = itemsPerSecond / this.#options.requestItems / 1000;
    const fromMs = tickMs();
    let begun = 0;
    for (let ms = 0; ms < seconds * 1000; ms = tickMs() - fromMs) {
      const due = Math.floor(ms * requestsPerMs) - begun;
      begun += due;
      this.counts.offered += due;
      for (let i = 0; i < due; i++) {
        const client = this.#free();
        if (client === undefined) break;
        void this.#send(client);
      }
      await sleep(TICK_MS);
    }
    while (this.#clients.some(({ busy }) => busy)) await sleep(TICK_MS);
  }

  /** What of it is stored, once nothing accepted is missing, or the time is over. @throws Fault */
  audit(clickhouse: string, database: string, waitMs: number): Promise<Audit> {
    const sent = { ledger: this.ledger, run: this.#run, window: this.#window };
    return auditOf(sent, clickhouse, database, waitMs);
  }

  close(): void {
    for (const { sender } of this.#clients) sender.close();
  }

  #free(): Client | undefined {
    const now = tickMs();
    for (let looked = 0; looked < this.#clients.length; looked++) {
      const client = this.#clients[this.#next++ % this.#clients.length] as Client;
      if (!client.busy && client.waitsUntilMs <= now) return client;
    }
    return undefined;
  }

  async #send(client: Client): Promise<void> {
    const { template, sender } = client;
    client.busy = true;
    const request = this.ledger.issue(template.items);
    template.stamp(request);
    this.counts.sent += 1;
    const sentMs = tickMs();
    if (sentMs - client.idleFromMs > IDLE_MS_MAX) sender.close();
    const answer = await sender.send(SIGNAL, template.frame);
    client.busy = false;
    client.idleFromMs = tickMs();
    this.#note(client, request, answer, client.idleFromMs - sentMs);
  }

  #note(client: Client, request: number, answer: Answer, ms: number): void {
    const { counts } = this;
    if (answer.kind === 'acknowledged') {
      this.ledger.acknowledge(request, answer.rejected);
      counts.accepted += 1;
      counts.acceptedItems += client.template.items - answer.rejected;
      counts.latency.record(ms);
      return;
    }
    counts.codes.set(answer.code, (counts.codes.get(answer.code) ?? 0) + 1);
    if (answer.kind === 'unanswered') {
      counts.unanswered += 1;
      return;
    }
    this.ledger.refuse(request);
    if (!answer.retryable) counts.final += 1;
    else if (answer.retryAfterMs === undefined) counts.undelayed += 1;
    else counts.delayed += 1;
    if (this.#options.honour) client.waitsUntilMs = tickMs() + (answer.retryAfterMs ?? 0);
  }
}
