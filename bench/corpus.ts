/**
 * The corpus: requests like those that real senders make, the same for the same seed, encoded once.
 * What each signal's requests look like: corpus/traces.ts, corpus/logs.ts, corpus/metrics.ts.
 */
import type { Signal } from '../src/model/signal.ts';
import { logsRequest } from './corpus/logs.ts';
import { metricsRequest } from './corpus/metrics.ts';
import { createRandom } from './corpus/random.ts';
import type { Tree } from './corpus/slot.ts';
import { tracesRequest } from './corpus/traces.ts';
import { pointStartNs, type Window } from './identity.ts';
import { type Format, Template } from './template.ts';

export interface CorpusOptions {
  readonly signal: Signal;
  readonly format: Format;
  readonly seed: number;
  /** How many different requests. */
  readonly requests: number;
  /** Items of each request; without it they vary as in ITEMS_PER_REQUEST. */
  readonly requestItems?: number | undefined;
  /** 32 bits that tell this run's items from all others. */
  readonly run: number;
  readonly window: Window;
}

/** Fewest and most items of a request when nothing else is asked for. */
export const ITEMS_PER_REQUEST: Readonly<Record<Signal, readonly [number, number]>> = {
  traces: [521, 999],
  logs: [906, 1097],
  metrics: [900, 1094],
};

/** The templates own their bytes and are stamped in place: one request in flight per template. */
export function createCorpus(options: CorpusOptions): Template[] {
  const { signal, format, run, window } = options;
  const random = createRandom(options.seed);
  const [itemsMin, itemsMax] = ITEMS_PER_REQUEST[signal];
  // Templates' times use the first half of the window, the shift per request the second; spans may last 81 s.
  const spreadNs = Math.floor(window.lengthNs * 0.45);
  const request = (items: number): Tree => {
    if (signal === 'traces') return tracesRequest(random, run, items, spreadNs);
    if (signal === 'logs') return logsRequest(random, run, items, spreadNs);
    return metricsRequest(random, run, items, pointStartNs(run, window));
  };
  return Array.from({ length: options.requests }, () => {
    const items = options.requestItems ?? random.int(itemsMin, itemsMax);
    return new Template(signal, format, request(items), items, run, window);
  });
}
