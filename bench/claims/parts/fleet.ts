/** Many collectors that send to one gateway, half of them over gRPC and half over HTTP. */
import { randomInt } from 'node:crypto';
import { tickMs } from '../../../src/base/clock.ts';
import { COLLECTOR_DEFAULTS, CollectorClient } from '../../../test/support/collector-client.ts';
import { createCorpus } from '../../corpus.ts';
import { windowOfToday } from '../../identity.ts';
import type { Member } from '../../installation.ts';
import type { Answer } from '../../send/answer.ts';
import { GrpcConnection } from '../../send/grpc.ts';
import { HttpSender } from '../../send/http.ts';
import { Ledger } from '../../send/ledger.ts';
import type { Sender } from '../../send/sender.ts';
import type { Template } from '../../template.ts';

export const REQUEST_ITEMS = 100;
/** Of a collector: two of each are enough to keep a thousand of them busy on one machine. */
const COLLECTOR = { ...COLLECTOR_DEFAULTS, consumers: 2, elapsedMsMax: 0 };
const TICK_MS = 20;
/** For the consumers of a fleet that is closed: nothing is worth another try. */
const CLOSED: Answer = {
  kind: 'refused', code: 'closed', retryable: false, retryAfterMs: undefined, message: 'the fleet is closed',
};

/** All the collectors, and what they keep. */
export class Fleet {
  readonly run = randomInt(1, 2 ** 32 - 1);
  readonly window = windowOfToday(Date.now());
  /** Of what the collectors took from those who made it. */
  readonly ledger = new Ledger();
  readonly clients: readonly CollectorClient<number>[];
  readonly #senders: Sender[] = [];
  readonly #arrivals = new Map<number, number>();
  #markMs = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(gateway: Member, clients: number, seed: number, timeoutMs: number) {
    const sending = { format: 'protobuf', compression: 'none', timeoutMs } as const;
    const corpus = { signal: 'traces', format: 'protobuf', seed, run: this.run, window: this.window } as const;
    // Stamped anew before each try, so that one for each consumer is enough.
    const requests = clients * COLLECTOR.consumers;
    const templates = createCorpus({ ...corpus, requests, requestItems: REQUEST_ITEMS });
    this.clients = Array.from({ length: clients }, (_, client) => {
      const grpc = client % 2 === 0 ? new GrpcConnection({ ...sending, target: gateway.grpcTarget }) : undefined;
      const senders = Array.from({ length: COLLECTOR.consumers }, () =>
        grpc === undefined ? new HttpSender({ ...sending, target: gateway.target }) : grpc.sender(),
      );
      this.#senders.push(...senders);
      return new CollectorClient<number>((request, consumer) => {
        const template = templates[client * COLLECTOR.consumers + consumer] as Template;
        return this.#try(senders[consumer] as Sender, template, request);
      }, COLLECTOR);
    });
  }

  /** Requests that the collectors keep. */
  get waiting(): number {
    return this.clients.reduce((sum, client) => sum + client.waiting, 0);
  }

  count(of: 'acknowledged' | 'retried' | 'refused' | 'droppedForGood' | 'droppedLate'): number {
    return this.clients.reduce((sum, { counts }) => sum + counts[of], 0);
  }

  /** The collectors get requests to send, one after another. */
  begin(requestsPerSecond: number): void {
    const fromMs = tickMs();
    let offered = 0;
    this.#timer = setInterval(() => {
      const due = Math.floor(((tickMs() - fromMs) / 1000) * requestsPerSecond);
      for (; offered < due; offered++) {
        const client = this.clients[offered % this.clients.length] as CollectorClient<number>;
        const request = this.ledger.issue(REQUEST_ITEMS);
        if (!client.offer(request)) this.ledger.refuse(request);
      }
    }, TICK_MS);
  }

  /** They get no more; what they keep they go on sending. */
  stop(): void {
    clearInterval(this.#timer);
  }

  /** From now on arrivals are noted. */
  mark(): void {
    this.#markMs = tickMs();
    this.#arrivals.clear();
  }

  /** Tries in each second since the mark that is over. */
  spread(): number[] {
    const seconds = Math.floor((tickMs() - this.#markMs) / 1000);
    return Array.from({ length: seconds }, (_, second) => this.#arrivals.get(second) ?? 0);
  }

  /** What the collectors still keep is thrown away, each request at its next try. */
  close(): void {
    this.stop();
    this.#closed = true;
    for (const sender of this.#senders) sender.close();
  }

  async #try(sender: Sender, template: Template, request: number): Promise<Answer> {
    if (this.#closed) return CLOSED;
    const second = Math.floor((tickMs() - this.#markMs) / 1000);
    if (second >= 0) this.#arrivals.set(second, (this.#arrivals.get(second) ?? 0) + 1);
    template.stamp(request);
    const answer = await sender.send('traces', template.frame);
    if (answer.kind === 'acknowledged') this.ledger.acknowledge(request, answer.rejected);
    else if (answer.kind === 'refused' && !answer.retryable) this.ledger.refuse(request);
    return answer;
  }
}
