/**
 * How long it takes from the acknowledgement until an item can be read: now and then one marked item is sent,
 * and ClickHouse is asked for those that are outstanding. The items have a service and a minute of their own,
 * so that the primary key leads to them: a few granules are read, by one thread.
 */
import { sleep, tickMs } from '../../src/base/clock.ts';
import type { Signal } from '../../src/model/signal.ts';
import type { Tree } from '../corpus/slot.ts';
import { runName } from '../corpus/words.ts';
import { pointStartNs, type Window } from '../identity.ts';
import { compressFrame, formatOf, type Compression, type Protocol, type Sender } from '../send/sender.ts';
import { Template } from '../template.ts';
import type { Accounting } from './accounting.ts';
import { Latency, type LatencyMs } from './latency.ts';

/** Within one slot of five minutes, by which the table of the logs is sorted. */
const PROBE_WINDOW_NS = 60e9;

export interface Freshness extends LatencyMs {
  /** Acknowledged items that could not be read within the bound. */
  readonly lost: number;
}

export interface ProbeOptions {
  readonly signals: readonly Signal[];
  readonly protocol: Protocol;
  readonly compression: Compression;
  /** Of the load: the probe's differs from it. */
  readonly run: number;
  readonly window: Window;
  /** Between two items, and between two looks: the figures are at most so much too long. */
  readonly everyMs: number;
}

class Course {
  readonly signal: Signal;
  readonly template: Template;
  requests = 0;
  /** Request to the moment of its acknowledgement. */
  readonly outstanding = new Map<number, number>();

  constructor(signal: Signal, template: Template) {
    this.signal = signal;
    this.template = template;
  }
}

export class FreshnessProbe {
  readonly #options: ProbeOptions;
  readonly #sender: Sender;
  readonly #accounting: Accounting;
  readonly #courses: readonly Course[];
  readonly #service: string;
  readonly #run: number;
  readonly #window: Window;
  readonly #latency = new Latency();
  readonly #ended = new AbortController();
  #acknowledged = 0;
  #sending = false;
  #work: Promise<unknown> = Promise.resolve();
  #giveUpAtMs = Number.POSITIVE_INFINITY;

  /** @param sender used by the probe alone; it stays the caller's to close */
  constructor(options: ProbeOptions, sender: Sender, accounting: Accounting) {
    this.#options = options;
    this.#sender = sender;
    this.#accounting = accounting;
    this.#run = ~options.run >>> 0;
    this.#window = { startNs: options.window.startNs, lengthNs: PROBE_WINDOW_NS };
    this.#service = `bench-probe-${runName(options.run)}`;
    this.#courses = options.signals.map((signal) => {
      const tree = probeRequest(signal, this.#service, pointStartNs(this.#run, this.#window));
      return new Course(
        signal,
        new Template(signal, formatOf(options.protocol), tree, 1, this.#run, this.#window),
      );
    });
  }

  /** Rows that the probe has added so far, or will. */
  get rows(): number {
    return this.#acknowledged;
  }

  start(): void {
    this.#work = Promise.all([this.#sendAll(), this.#lookForAll()]);
    // `stop` throws what went wrong; until then nobody waits for it, which Node would take for a fatal
    // mistake.
    this.#work.catch(() => this.#ended.abort());
  }

  /**
   * Sends no more, and resolves when every item can be read or `msMax` is over.
   * @throws Fault when ClickHouse could not be asked
   */
  async stop(msMax: number): Promise<Freshness> {
    this.#giveUpAtMs = tickMs() + msMax;
    this.#ended.abort();
    await this.#work;
    const lost = this.#courses.reduce((sum, { outstanding }) => sum + outstanding.size, 0);
    return { ...this.#latency.summary(), lost };
  }

  async #sendAll(): Promise<void> {
    this.#sending = true;
    for (let turn = 0; !this.#ended.signal.aborted; turn++) {
      const course = this.#courses[turn % this.#courses.length];
      if (course !== undefined) await this.#sendOne(course);
      await sleep(this.#options.everyMs, this.#ended.signal);
    }
    this.#sending = false;
  }

  /** A refusal is no matter here: the load counts them. */
  async #sendOne(course: Course): Promise<void> {
    const request = ++course.requests;
    course.template.stamp(request);
    const answer = await this.#sender.send(
      course.signal,
      compressFrame(course.template.frame, this.#options.compression),
    );
    if (answer.kind !== 'acknowledged') return;
    this.#acknowledged++;
    course.outstanding.set(request, tickMs());
  }

  async #lookForAll(): Promise<void> {
    for (;;) {
      for (const course of this.#courses) await this.#lookFor(course);
      const left = this.#sending || this.#courses.some(({ outstanding }) => outstanding.size > 0);
      if (this.#ended.signal.aborted && (!left || tickMs() > this.#giveUpAtMs)) return;
      await sleep(this.#options.everyMs);
    }
  }

  async #lookFor({ signal, outstanding }: Course): Promise<void> {
    if (outstanding.size === 0) return;
    const probe = { signal, service: this.#service, run: this.#run, window: this.#window };
    for (const request of await this.#accounting.readable(probe, [...outstanding.keys()])) {
      const acknowledgedAtMs = outstanding.get(request);
      if (acknowledgedAtMs !== undefined) this.#latency.record(tickMs() - acknowledgedAtMs);
      outstanding.delete(request);
    }
  }
}

/** One span, log record or gauge point. */
function probeRequest(signal: Signal, service: string, startNs: bigint): Tree {
  const resource = { attributes: [{ key: 'service.name', value: { stringValue: service } }] };
  const scope = { name: 'bench.probe' };
  const ids = { traceId: { slot: 'trace', index: 1 }, spanId: { slot: 'span', index: 1 } } as const;
  const time = { slot: 'time', offsetNs: 0 } as const;
  if (signal === 'traces') {
    const span = { ...ids, name: 'probe', kind: 1, startTimeUnixNano: time, endTimeUnixNano: time };
    return { resourceSpans: [{ resource, scopeSpans: [{ scope, spans: [span] }] }] };
  }
  if (signal === 'logs') {
    const record = { timeUnixNano: time, severityNumber: 9, body: { stringValue: 'probe' }, ...ids };
    return { resourceLogs: [{ resource, scopeLogs: [{ scope, logRecords: [record] }] }] };
  }
  const point = { startTimeUnixNano: startNs, timeUnixNano: { slot: 'point', index: 1 }, asInt: 1n };
  const metric = { name: 'probe', gauge: { dataPoints: [point] } };
  return { resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics: [metric] }] }] };
}
