/**
 * What a request has beyond its bounds, by the plain reading: with objects, every text written out, and times
 * to the nanosecond. Apart from the transcoder, which only looks.
 */
import type { RecordBounds } from '../../src/model/block.ts';
import type { Signal } from '../../src/model/signal.ts';
import type { Message, Value } from './decode.ts';
import { messageIn, messagesIn, nesting, valueText } from './text.ts';

const NS_PER_MS = 1_000_000n;
const KINDS = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'];
const SHAPES = {
  traces: ['resourceSpans', 'scopeSpans', 'spans'],
  logs: ['resourceLogs', 'scopeLogs', 'logRecords'],
  metrics: ['resourceMetrics', 'scopeMetrics', 'metrics'],
} as const;

/** Collects the bounds that are exceeded. */
class Look {
  readonly found = new Set<string>();
  readonly #bounds: RecordBounds;
  readonly #nestingMax: number;
  /** By this much times are taken to be nearer to their bounds. */
  readonly #slackNs: bigint;

  constructor(bounds: RecordBounds, nestingMax: number, slackNs: bigint) {
    this.#bounds = bounds;
    this.#nestingMax = nestingMax;
    this.#slackNs = slackNs;
  }

  count(name: 'attributesMax' | 'valueBytesMax' | 'eventsMax' | 'linksMax', count: number): void {
    if (this.#bounds[name] > 0 && count > this.#bounds[name]) this.found.add(name);
  }

  value(value: Message | undefined): void {
    this.count('valueBytesMax', valueText(value).length);
    if (this.#bounds.nesting && nesting(value) > this.#nestingMax) this.found.add('nesting');
  }

  attributes(list: Value | undefined): void {
    const entries = messagesIn(list);
    this.count('attributesMax', entries.length);
    for (const entry of entries) this.value(messageIn(entry.value));
  }

  past(time: Value | undefined): void {
    const { timeMinMs } = this.#bounds;
    const least = BigInt(timeMinMs) * NS_PER_MS + this.#slackNs;
    if (timeMinMs > 0 && ns(time) < least) this.found.add('timeMinMs');
  }

  future(time: Value | undefined): void {
    const { timeMaxMs } = this.#bounds;
    const most = BigInt(timeMaxMs) * NS_PER_MS - this.#slackNs;
    if (timeMaxMs > 0 && ns(time) > most) this.found.add('timeMaxMs');
  }

  span(span: Message): void {
    this.attributes(span.attributes);
    const [events, links] = [messagesIn(span.events), messagesIn(span.links)];
    this.count('eventsMax', events.length);
    this.count('linksMax', links.length);
    for (const inner of [...events, ...links]) this.attributes(inner.attributes);
    this.past(span.startTimeUnixNano);
    this.future(span.startTimeUnixNano);
    this.future(span.endTimeUnixNano);
  }

  log(log: Message): void {
    this.attributes(log.attributes);
    this.value(messageIn(log.body));
    const time = ns(log.timeUnixNano) || ns(log.observedTimeUnixNano);
    this.past(time);
    this.future(time);
  }

  metric(metric: Message): void {
    const kind = KINDS.find((name) => metric[name] !== undefined) ?? '';
    for (const point of messagesIn(messageIn(metric[kind])?.dataPoints)) {
      this.attributes(point.attributes);
      if (kind !== 'summary') {
        for (const exemplar of messagesIn(point.exemplars)) this.attributes(exemplar.filteredAttributes);
      }
      this.past(point.timeUnixNano);
      this.future(point.timeUnixNano);
    }
  }
}

function ns(time: Value | undefined): bigint {
  return typeof time === 'bigint' ? time : 0n;
}

/**
 * The names of the bounds that a request exceeds, of all of its resources, scopes and records.
 * @param slackMs takes times that are so far within their bounds to be beyond them
 */
export function exceededBounds(
  signal: Signal, request: Message, bounds: RecordBounds, nestingMax: number, slackMs = 0,
): ReadonlySet<string> {
  const look = new Look(bounds, nestingMax, BigInt(slackMs) * NS_PER_MS);
  const [resources, scopes, records] = SHAPES[signal];
  for (const underResource of messagesIn(request[resources])) {
    look.attributes(messageIn(underResource.resource)?.attributes);
    for (const underScope of messagesIn(underResource[scopes])) {
      look.attributes(messageIn(underScope.scope)?.attributes);
      for (const record of messagesIn(underScope[records])) {
        if (signal === 'traces') look.span(record);
        else if (signal === 'logs') look.log(record);
        else look.metric(record);
      }
    }
  }
  return look.found;
}
