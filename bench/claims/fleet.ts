/** Many collectors that send to one gateway, half of them over gRPC and half over HTTP. */
import { sleep, tickMs } from '../../src/base/clock.ts';
import { COLLECTOR_DEFAULTS, CollectorClient } from '../../test/support/collector-client.ts';
import { createCorpus } from '../corpus.ts';
import { windowOfToday } from '../identity.ts';
import type { Member } from '../installation.ts';
import { GrpcConnection } from '../send/grpc.ts';
import { HttpSender } from '../send/http.ts';
import type { Sender } from '../send/sender.ts';
import type { Template } from '../template.ts';

export const REQUEST_ITEMS = 100;
/** Of a collector: two of each are enough to keep a thousand of them busy on one machine. */
const COLLECTOR = { ...COLLECTOR_DEFAULTS, consumers: 2, elapsedMsMax: 0 };

interface Kept {
  readonly number: number;
}

/** All the collectors, and what they keep. */
export class Fleet {
  readonly clients: readonly CollectorClient<Kept>[];
  readonly #senders: Sender[] = [];
  readonly #arrivals = new Map<number, number>();
  #markMs = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #number = 0;

  constructor(gateway: Member, clients: number, seed: number, timeoutMs: number) {
    const sending = { format: 'protobuf', compression: 'none', timeoutMs } as const;
    const corpus = { signal: 'traces', format: 'protobuf', seed, run: seed + 1, window: windowOfToday(Date.now()) } as const;
    // Stamped anew before each try, so that one for each consumer is enough.
    const requests = clients * COLLECTOR.consumers;
    const templates = createCorpus({ ...corpus, requests, requestItems: REQUEST_ITEMS });
    this.clients = Array.from({ length: clients }, (_, client) => {
      const grpc = client % 2 === 0 ? new GrpcConnection({ ...sending, target: gateway.grpcTarget }) : undefined;
      const senders = Array.from({ length: COLLECTOR.consumers }, () =>
        grpc === undefined ? new HttpSender({ ...sending, target: gateway.target }) : grpc.sender(),
      );
      this.#senders.push(...senders);
      return new CollectorClient<Kept>(({ number }, consumer) => {
        this.#arrived();
        const template = templates[client * COLLECTOR.consumers + consumer] as Template;
        template.stamp(number);
        return (senders[consumer] as Sender).send('traces', template.frame);
      }, COLLECTOR);
    });
  }

  get waiting(): number {
    return this.clients.reduce((sum, client) => sum + client.waiting, 0);
  }

  count(of: 'acknowledged' | 'retried' | 'refused' | 'droppedForGood' | 'droppedLate'): number {
    return this.clients.reduce((sum, { counts }) => sum + counts[of], 0);
  }

  /** Each collector gets requests to send, one after another. */
  begin(requestsPerSecond: number): void {
    const fromMs = tickMs();
    this.#timer = setInterval(() => {
      const due = Math.floor(((tickMs() - fromMs) / 1000) * requestsPerSecond);
      while (this.#number < due) {
        const client = this.clients[this.#number % this.clients.length] as CollectorClient<Kept>;
        client.offer({ number: ++this.#number });
      }
    }, 20);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** From now on arrivals are noted. */
  mark(): void {
    this.#markMs = tickMs();
  }

  /** @returns seconds until nobody is pushed back and no more waits than before */
  async untilCalm(gateway: Member, secondsMax: number): Promise<number> {
    const fromMs = tickMs();
    const seconds = () => (tickMs() - fromMs) / 1000;
    // At most half of the consumers are busy with what is due now.
    const calm = () => this.waiting < this.clients.length;
    while (seconds() < secondsMax) {
      if (calm() && (await gateway.metric('backpressure_level')) === 0) return seconds();
      await sleep(100);
    }
    return seconds();
  }

  /** Tries in each second since the mark. */
  spread(): number[] {
    const last = Math.max(0, ...this.#arrivals.keys());
    return Array.from({ length: last + 1 }, (_, second) => this.#arrivals.get(second) ?? 0);
  }

  close(): void {
    this.stop();
    for (const sender of this.#senders) sender.close();
  }

  #arrived(): void {
    const second = Math.floor((tickMs() - this.#markMs) / 1000);
    if (second >= 0) this.#arrivals.set(second, (this.#arrivals.get(second) ?? 0) + 1);
  }
}
