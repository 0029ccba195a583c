/**
 * What tenants ask this gateway for, bytes per second as they come over the wire, by signal: whether it is
 * let in or not, since who is refused still wants it. Means over about two seconds.
 */
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { SignalDemand } from './fair.ts';

/** After this long without change a mean has come nearer by 63 %. */
const MEAN_MS = 2_000;
/** A tenant that asks for less is forgotten. */
const PER_SECOND_MIN = 1;
/** Of the tenants told to other gateways, those that ask for most: an entry on the board has its bounds. */
const TOLD_MAX = 300;
/** Of a request whose client doesn't say how long it is, before one of them was taken. */
const REQUEST_BYTES_FIRST = 16_384;
/** Of the newest request in the mean of their sizes. */
const NEWEST_PART = 0.05;

interface Flow {
  /** Since the last tick. */
  bytes: number;
  perSecond: number;
  requestBytes: number;
}

export class Demands {
  readonly #tenants = new Map<string, Record<Signal, Flow>>();
  readonly #all: Flow = newFlow();
  readonly #admitted: Flow = newFlow();

  /**
   * One request.
   * @param declaredBytes 0 when the client doesn't say: then it counts as its tenant's usual one
   * @returns what it counts as
   */
  ask(tenant: string, signal: Signal, declaredBytes: number): number {
    const flow = this.#flow(tenant, signal);
    const bytes = declaredBytes > 0 ? declaredBytes : flow.requestBytes;
    flow.bytes += bytes;
    this.#all.bytes += bytes;
    return bytes;
  }

  /** One that was let in, with what it counted as. */
  admitted(bytes: number): void {
    this.#admitted.bytes += bytes;
  }

  /** How long a request has turned out to be. */
  measured(tenant: string, signal: Signal, bytes: number): void {
    const flow = this.#flow(tenant, signal);
    flow.requestBytes += (bytes - flow.requestBytes) * NEWEST_PART;
  }

  /** @param sinceMs since the last tick */
  tick(sinceMs: number): void {
    if (sinceMs <= 0) return;
    for (const [tenant, flows] of this.#tenants) {
      let perSecond = 0;
      for (const signal of SIGNALS) perSecond += settle(flows[signal], sinceMs);
      if (perSecond < PER_SECOND_MIN) this.#tenants.delete(tenant);
    }
    settle(this.#all, sinceMs);
    settle(this.#admitted, sinceMs);
  }

  /** Of what was asked for, what was let in: 0 to 1. */
  get admittedShare(): number {
    const asked = this.#all.perSecond;
    return asked < PER_SECOND_MIN ? 1 : Math.min(1, this.#admitted.perSecond / asked);
  }

  /** Of all tenants. */
  *entries(): Generator<readonly [string, SignalDemand]> {
    for (const [tenant, { traces, metrics, logs }] of this.#tenants) {
      const demand = { traces: traces.perSecond, metrics: metrics.perSecond, logs: logs.perSecond };
      yield [tenant, demand];
    }
  }

  /** For the other gateways: whole figures, only those above 0, of a bounded number of tenants. */
  told(): Record<string, SignalDemand> {
    const all = [...this.entries()].map(([tenant, demand]) => {
      const rounded = SIGNALS.map((signal) => [signal, Math.round(demand[signal] ?? 0)] as const);
      const found = rounded.filter(([, perSecond]) => perSecond > 0);
      const total = found.reduce((sum, [, perSecond]) => sum + perSecond, 0);
      return { tenant, total, demand: Object.fromEntries(found) as SignalDemand };
    });
    const largest = all.filter(({ total }) => total > 0).sort((one, other) => other.total - one.total);
    return Object.fromEntries(largest.slice(0, TOLD_MAX).map(({ tenant, demand }) => [tenant, demand]));
  }

  #flow(tenant: string, signal: Signal): Flow {
    let flows = this.#tenants.get(tenant);
    if (flows === undefined) {
      flows = { traces: newFlow(), metrics: newFlow(), logs: newFlow() };
      this.#tenants.set(tenant, flows);
    }
    return flows[signal];
  }
}

function newFlow(): Flow {
  return { bytes: 0, perSecond: 0, requestBytes: REQUEST_BYTES_FIRST };
}

/** The new mean. */
function settle(flow: Flow, sinceMs: number): number {
  const kept = Math.exp(-sinceMs / MEAN_MS);
  flow.perSecond = flow.perSecond * kept + ((flow.bytes * 1000) / sinceMs) * (1 - kept);
  flow.bytes = 0;
  return flow.perSecond;
}
