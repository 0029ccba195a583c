/**
 * A model of a shard to try choices against: replicas that take time, lag, fail and come back, in simulated
 * time, driven by a seed. Many inserts are under way at once, as from several jobs.
 */
import { Fault } from '../../src/base/errors.ts';
import type { ReplicaStrategy } from '../../src/config/settings.ts';
import { createInstruments } from '../../src/metrics/instruments.ts';
import { ReplicaChoice } from '../../src/topology/choice.ts';
import type { ReplicaFacts } from '../../src/topology/health.ts';
import type { Shard, Topology } from '../../src/topology/topology.ts';
import { seededRandom } from '../oracle/random.ts';
import { silent } from '../support/services.ts';

export const WELL: ReplicaFacts = {
  tables: 7, replicated: 7, readonlyTable: undefined, delaySeconds: 0, queueSize: 0, partsMax: 10,
  insertsRunning: 0, diskFree: 0.5,
};

/** A replica of the model. */
export interface Model {
  /** Mean milliseconds for a MiB; real ones scatter around it by a factor of two and more. */
  paceMs: number;
  up: boolean;
  facts: ReplicaFacts;
}

export interface FleetOptions {
  readonly seed: number;
  readonly strategy: ReplicaStrategy;
  readonly replicas: number;
  readonly loadRatioMax?: number;
  readonly concurrency?: number;
  readonly replicaReturnMs?: number;
}

export const hostOf = (replica: number) => `r${replica}:8123`;

export function shardOf(replicas: number, shard = 0): Shard {
  const replica = (index: number) => ({
    shard, replica: index, url: `http://${hostOf(index)}`, host: hostOf(index),
  });
  return { shard, weight: 1, name: '01', replicas: Array.from({ length: replicas }, (_, index) => replica(index)) };
}

export function topologyOf(...shards: Shard[]): Topology {
  return { cluster: 'c', shards };
}

export class Fleet {
  readonly models: Model[];
  readonly instruments = createInstruments();
  readonly choice: ReplicaChoice;
  readonly shard: Shard;
  /** Of every insert that was stored. */
  readonly stored: { readonly id: string; readonly replica: number; readonly bytes: number; readonly atMs: number }[] = [];
  /** Inserts that met a replica that was down. */
  failed = 0;
  nowMs = 0;
  readonly #random: () => number;
  readonly #concurrency: number;
  #ids = 0;

  constructor({ seed, strategy, replicas, loadRatioMax = 2, concurrency = 2, replicaReturnMs = 60_000 }: FleetOptions) {
    this.models = Array.from({ length: replicas }, () => ({ paceMs: 20, up: true, facts: WELL }));
    this.shard = shardOf(replicas);
    const random = seededRandom(seed);
    this.#random = () => random.int(2 ** 32) / 2 ** 32;
    this.#concurrency = concurrency;
    this.choice = new ReplicaChoice({
      replicaStrategy: strategy, loadRatioMax, replicaReturnMs, healthCheckMs: 30_000, instruments: this.instruments,
      logger: silent, now: () => this.nowMs,
    });
    this.choice.keep(topologyOf(this.shard));
  }

  /** Writes batch after batch for so many milliseconds. */
  run(forMs: number): void {
    const untilMs = this.nowMs + forMs;
    /** When each of the jobs is free again, and what happens then. */
    const jobs = Array.from({ length: this.#concurrency }, () => ({ atMs: this.nowMs, end: () => {} }));
    for (;;) {
      const job = jobs.reduce((first, other) => (other.atMs < first.atMs ? other : first));
      if (job.atMs > untilMs) break;
      this.nowMs = job.atMs;
      job.end();
      this.check();
      const { endMs, end } = this.#write();
      job.atMs = endMs;
      job.end = end;
    }
    this.nowMs = untilMs;
    for (const { end } of jobs) end();
  }

  /** Health checks that are due, answered at once. */
  check(): void {
    this.choice.keep(topologyOf(this.shard));
    for (const [index, replica] of this.shard.replicas.entries()) {
      const model = this.models[index];
      if (model === undefined || this.choice.checkInMs(replica) > 0) continue;
      this.choice.checked(replica, model.up ? model.facts : refused(index));
    }
  }

  /** The part of each replica in the bytes that were stored since. */
  shares(sinceMs = 0): number[] {
    const bytes = this.models.map(() => 0);
    for (const insert of this.stored) {
      if (insert.atMs >= sinceMs) bytes[insert.replica] = (bytes[insert.replica] ?? 0) + insert.bytes;
    }
    const sum = bytes.reduce((total, part) => total + part, 0);
    return bytes.map((part) => part / sum);
  }

  async gauge(name: 'replicaUp' | 'replicaShare' | 'replicaInFlight'): Promise<number[]> {
    const { values } = await this.instruments[name].get();
    return this.shard.replicas.map(({ host }) => values.find(({ labels }) => labels.replica === host)?.value ?? NaN);
  }

  /** One batch: to the next replica at once while one is down. */
  #write(): { endMs: number; end: () => void } {
    const batch = {
      id: `batch-${this.#ids++}`,
      table: this.#random() < 0.7 ? 'otel_traces' : 'otel_logs',
      bytes: Math.floor(this.#random() ** 3 * 32 * 2 ** 20),
    };
    const tried = new Set<string>();
    for (;;) {
      const picked = this.choice.pick(this.shard, batch, tried);
      if (picked === undefined) return { endMs: this.nowMs + 250, end: () => {} };
      const { replica, lastResort } = picked;
      const model = this.models[replica.replica];
      const running = this.choice.began(replica, batch.bytes);
      if (model?.up) {
        const ms = model.paceMs * (1 + batch.bytes / 2 ** 20) * this.#scatter();
        const end = () => {
          this.choice.ended(replica, running, 'worked');
          this.stored.push({ id: batch.id, replica: replica.replica, bytes: batch.bytes, atMs: this.nowMs });
        };
        return { endMs: this.nowMs + ms, end };
      }
      this.failed += 1;
      this.choice.ended(replica, running, { fault: refused(replica.replica) });
      tried.add(replica.host);
      if (lastResort) return { endMs: this.nowMs + 250, end: () => {} };
    }
  }

  /** Log-normal, around 1: half as long and twice as long are common. */
  #scatter(): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.#random())) * Math.cos(2 * Math.PI * this.#random());
    return Math.exp(0.6 * normal);
  }
}

function refused(replica: number): Fault {
  return new Fault('ECONNREFUSED', 'elsewhere', `${hostOf(replica)} refused the connection`);
}
