/**
 * The screen as a slow reference on decoded objects: written from docs/limits.md, apart from src/screen.
 * Texts are "binary" strings, one char for each byte (test/oracle/decode.ts).
 */
import type { Rule } from '../../src/config/rules.ts';
import type { Settings } from '../../src/config/settings.ts';
import { LIMITS, LIMIT_REASONS, type Limit } from '../../src/model/outcome.ts';
import type { Signal } from '../../src/model/signal.ts';
import type { Message, Value } from '../oracle/decode.ts';
import {
  ATTRIBUTE_LISTS,
  type Around,
  MEMBERS,
  binary,
  holders,
  holds,
  levelOf,
  list,
  redact,
} from './reference-rules.ts';

export interface Context {
  readonly tenant: string;
  readonly nowMs: number;
  readonly overflow?: ((ordinal: number) => boolean) | undefined;
}
type Counts = Map<string, number>;
export interface Expected {
  readonly message: Message;
  readonly rejected: Counts;
  readonly trimmed: Counts;
  readonly over: Counts;
  readonly filtered: Counts;
  readonly redacted: Counts;
}

const more = (counts: Counts, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
const copy = <T extends Value>(value: T): T => structuredClone(value);

interface Window {
  readonly min: bigint;
  readonly max: bigint;
}

export class Reference {
  readonly #settings: Pick<Settings, 'limits' | 'rules' | 'receive'>;

  constructor(settings: Pick<Settings, 'limits' | 'rules' | 'receive'>) {
    this.#settings = settings;
  }

  apply(signal: Signal, request: Message, context: Context): Expected {
    const { rules } = this.#settings;
    const own = rules.filter(({ signals, tenants }) => {
      const isSignal = signals.length === 0 || signals.includes(signal);
      return isSignal && (tenants.length === 0 || tenants.includes(context.tenant));
    });
    return new Run(signal, this.#settings, own, context).run(copy(request));
  }
}

class Run {
  readonly #signal: Signal;
  readonly #settings: Pick<Settings, 'limits' | 'receive'>;
  readonly #rules: readonly Rule[];
  readonly #context: Context;
  readonly #counts = {
    rejected: new Map(),
    trimmed: new Map(),
    over: new Map(),
    filtered: new Map(),
    redacted: new Map(),
  } as Record<'rejected' | 'trimmed' | 'over' | 'filtered' | 'redacted', Counts>;
  #ordinal = 0;

  constructor(
    signal: Signal,
    settings: Pick<Settings, 'limits' | 'receive'>,
    rules: readonly Rule[],
    context: Context,
  ) {
    this.#signal = signal;
    this.#settings = settings;
    this.#rules = rules;
    this.#context = context;
  }

  run(request: Message): Expected {
    const [resources, scopes, records] = {
      traces: ['resourceSpans', 'scopeSpans', 'spans'],
      logs: ['resourceLogs', 'scopeLogs', 'logRecords'],
      metrics: ['resourceMetrics', 'scopeMetrics', 'metrics'],
    }[this.#signal] as [string, string, string];
    const sizeOf = (item: Message) => (this.#signal === 'metrics' ? this.#points(item).length : 1);
    const below = (item: Message, name: string, size: (inner: Message) => number) =>
      list(item, name).reduce((sum, inner) => sum + size(inner), 0);
    const left = list(request, resources).filter((resource) => {
      const had = below(resource, scopes, (scope) => below(scope, records, sizeOf));
      this.#resource(resource, scopes, records);
      return had === 0 || below(resource, scopes, (scope) => below(scope, records, sizeOf)) > 0;
    });
    if (request[resources] !== undefined) request[resources] = left;
    return { message: request, ...this.#counts };
  }

  #points(metric: Message): readonly Message[] {
    const member = MEMBERS.find((name) => name in metric);
    return member === undefined ? [] : list(metric[member] as Message, 'dataPoints');
  }

  #resource(item: Message, scopes: string, records: string): void {
    const sent = copy((item['resource'] ?? {}) as Message);
    const resource = (item['resource'] ?? {}) as Message;
    const shared = this.#shared(resource, 0, { signal: this.#signal, resource: sent, scope: {}, metric: {} });
    const left = list(item, scopes).filter((scope) => this.#scope(scope, records, sent, shared));
    if (item[scopes] !== undefined) item[scopes] = left;
  }

  /** Redacts and trims a resource (level 0) or scope (1). @returns what counts for all of its records */
  #shared(message: Message, level: number, around: Around): { hits: Set<string>; over: Set<Limit> } {
    const hits = new Set<string>();
    for (const rule of this.#rules) {
      const { when } = rule;
      if (when.some((condition) => levelOf(condition, this.#signal) > level)) continue;
      if (!when.every((condition) => holds(condition, {}, around))) continue;
      if (rule.action === 'keep') break;
      if (rule.action !== 'redact') continue;
      if (redact(rule, message, false, this.#settings.receive.nestingMax)) hits.add(rule.name);
    }
    const over = this.#over(message, undefined);
    if (![...over].some((limit) => this.#settings.limits.refuse.has(limit))) this.#trim(message, over, false);
    return { hits, over };
  }

  #scope(
    item: Message,
    records: string,
    resource: Message,
    outer: { hits: Set<string>; over: Set<Limit> },
  ): boolean {
    const sent = copy((item['scope'] ?? {}) as Message);
    const around = { signal: this.#signal, resource, scope: sent, metric: {} };
    const inner = this.#shared((item['scope'] ?? {}) as Message, 1, around);
    const hits = new Set([...outer.hits, ...inner.hits]);
    const over = new Set([...outer.over, ...inner.over]);
    let had = 0;
    let kept = 0;
    const left = list(item, records).filter((record) => {
      if (this.#signal !== 'metrics') {
        had++;
        const stays = this.#record(record, around, hits, over);
        kept += stays ? 1 : 0;
        return stays;
      }
      const points = this.#points(record);
      const stay = points.filter((point) => this.#record(point, { ...around, metric: record }, hits, over));
      had += points.length;
      kept += stay.length;
      const member = MEMBERS.find((name) => name in record) ?? '';
      if (points.length > 0) (record[member] as Message)['dataPoints'] = stay;
      return points.length === 0 || stay.length > 0;
    });
    if (item[records] !== undefined) item[records] = left;
    return had === 0 || kept > 0;
  }

  #record(record: Message, around: Around, sharedHits: Set<string>, sharedOver: Set<Limit>): boolean {
    const ordinal = this.#ordinal++;
    const sent = copy(record);
    const hits = new Set(sharedHits);
    const redactions: Rule[] = [];
    for (const rule of this.#rules) {
      if (!rule.when.every((condition) => holds(condition, sent, around))) continue;
      if (rule.action === 'keep') break;
      if (rule.action === 'redact') redactions.push(rule);
      const isGone = rule.action === 'drop' || (rule.action === 'sample' && rule.percent === 0);
      if (isGone) {
        more(this.#counts.filtered, rule.name);
        return false;
      }
    }
    for (const rule of redactions) {
      if (redact(rule, record, true, this.#settings.receive.nestingMax)) hits.add(rule.name);
    }
    const overflows = this.#context.overflow?.(ordinal) ?? false;
    const own = this.#over(record, this.#window());
    const over = new Set([...sharedOver, ...own, ...(overflows ? (['series'] as const) : [])]);
    const { mode, refuse } = this.#settings.limits;
    const refused = LIMITS.find((limit) => over.has(limit) && refuse.has(limit));
    if (mode === 'enforce' && refused !== undefined) {
      more(this.#counts.rejected, LIMIT_REASONS[refused]);
      return false;
    }
    for (const limit of over) more(mode === 'enforce' ? this.#counts.trimmed : this.#counts.over, limit);
    for (const name of hits) more(this.#counts.redacted, name);
    this.#trim(record, overflows ? over : own, true);
    if (overflows && mode === 'enforce') {
      record['attributes'] = [{ key: 'otel.metric.overflow', value: { boolValue: true } }];
    }
    return true;
  }

  #window(): Window | undefined {
    const { limits } = this.#settings;
    const past = limits.timePastBySignal.get(this.#signal) ?? limits.timePastMaxHours;
    const future = limits.timeFutureBySignal.get(this.#signal) ?? limits.timeFutureMaxHours;
    if (past === 0 && future === 0) return undefined;
    const now = BigInt(this.#context.nowMs) * 1_000_000n;
    const hour = 3_600_000_000_000n;
    return {
      min: past === 0 ? 0n : now - BigInt(past) * hour,
      max: future === 0 ? 2n ** 64n : now + BigInt(future) * hour,
    };
  }

  #timeName(record: Message): string {
    if (this.#signal === 'traces') return 'startTimeUnixNano';
    const isUnknown = this.#signal === 'logs' && (record['timeUnixNano'] ?? 0n) === 0n;
    return isUnknown && record['observedTimeUnixNano'] !== undefined
      ? 'observedTimeUnixNano'
      : 'timeUnixNano';
  }

  #over(message: Message, window: Window | undefined): Set<Limit> {
    const over = new Set<Limit>();
    const { limits } = this.#settings;
    const isMore = (count: number, max: number) => max > 0 && count > max;
    for (const holder of holders(message)) {
      for (const name of ATTRIBUTE_LISTS) {
        if (isMore(list(holder, name).length, limits.attributesMax)) over.add('attributes');
        for (const pair of list(holder, name)) this.#overValue((pair['value'] ?? {}) as Message, 0, over);
      }
    }
    if (message['body'] !== undefined) this.#overValue(message['body'] as Message, 0, over);
    if (isMore(list(message, 'events').length, limits.eventsMax)) over.add('events');
    if (isMore(list(message, 'links').length, limits.linksMax)) over.add('links');
    if (window === undefined) return over;
    const time = (message[this.#timeName(message)] ?? 0n) as bigint;
    if (time < window.min) over.add('time_past');
    if (time > window.max) over.add('time_future');
    return over;
  }

  #overValue(value: Message, depth: number, over: Set<Limit>): void {
    const { limits, receive } = this.#settings;
    const text = String(value['stringValue'] ?? value['bytesValue'] ?? '');
    if (limits.valueBytesMax > 0 && text.length > limits.valueBytesMax) over.add('value_bytes');
    for (const name of ['arrayValue', 'kvlistValue']) {
      if (value[name] === undefined) continue;
      if (depth >= receive.nestingMax) {
        if (!limits.refuse.has('nesting')) over.add('nesting');
        continue;
      }
      for (const item of list(value[name] as Message, 'values')) {
        this.#overValue((name === 'arrayValue' ? item : (item['value'] ?? {})) as Message, depth + 1, over);
      }
    }
  }

  #trim(message: Message, over: Set<Limit>, isRecord: boolean): void {
    if (this.#settings.limits.mode === 'dry_run' || over.size === 0) return;
    this.#trimAll(message, isRecord);
    const window = this.#window();
    if (window !== undefined && (over.has('time_past') || over.has('time_future')))
      this.#move(message, window);
  }

  #trimAll(message: Message, isRecord: boolean): void {
    const { limits } = this.#settings;
    for (const holder of holders(message)) {
      for (const name of ATTRIBUTE_LISTS) {
        for (const pair of list(holder, name)) this.#trimValue((pair['value'] ?? {}) as Message, 0);
        // Data points have no count of what is missing; resources and scopes of metrics do.
        const counted = name === 'attributes' && !(isRecord && this.#signal === 'metrics');
        this.#shorten(holder, name, limits.attributesMax, counted ? 'droppedAttributesCount' : undefined);
      }
    }
    if (message['body'] !== undefined) this.#trimValue(message['body'] as Message, 0);
    this.#shorten(message, 'events', limits.eventsMax, 'droppedEventsCount');
    this.#shorten(message, 'links', limits.linksMax, 'droppedLinksCount');
  }

  #shorten(message: Message, name: string, max: number, count: string | undefined): void {
    const items = list(message, name);
    if (max === 0 || items.length <= max) return;
    message[name] = items.slice(0, max);
    if (count === undefined) return;
    message[count] = Math.min(2 ** 32 - 1, Number(message[count] ?? 0) + items.length - max);
  }

  #trimValue(value: Message, depth: number): void {
    const { limits, receive } = this.#settings;
    const max = limits.valueBytesMax === 0 ? Infinity : limits.valueBytesMax;
    if (typeof value['stringValue'] === 'string') value['stringValue'] = cut(value['stringValue'], max);
    if (typeof value['bytesValue'] === 'string') value['bytesValue'] = value['bytesValue'].slice(0, max);
    for (const name of ['arrayValue', 'kvlistValue']) {
      if (value[name] === undefined) continue;
      if (depth >= receive.nestingMax) {
        if (limits.refuse.has('nesting')) continue;
        delete value[name];
        value['stringValue'] = '[nested too deep]';
        continue;
      }
      for (const item of list(value[name] as Message, 'values')) {
        this.#trimValue((name === 'arrayValue' ? item : (item['value'] ?? {})) as Message, depth + 1);
      }
    }
  }

  #move(record: Message, { min, max }: Window): void {
    const name = this.#timeName(record);
    const time = (record[name] ?? 0n) as bigint;
    const moved = time < min ? min : time > max ? max : time;
    record[name] = moved;
    if (this.#signal === 'traces' && record['endTimeUnixNano'] !== undefined) {
      const duration = (record['endTimeUnixNano'] as bigint) - time;
      record['endTimeUnixNano'] = BigInt.asUintN(64, moved + (duration > 0n ? duration : 0n));
    }
    const start = record['startTimeUnixNano'] as bigint | undefined;
    if (this.#signal === 'metrics' && start !== undefined && start > moved)
      record['startTimeUnixNano'] = moved;
  }
}

/** The first whole characters, and a mark of what is missing; together at most `max` bytes. */
function cut(text: string, max: number): string {
  if (text.length <= max) return text;
  const mark = (bytes: number) => binary(`…[truncated ${bytes} bytes]`);
  const room = max - mark(text.length).length;
  const to = room < 0 ? max : room;
  let stop = to;
  const continues = (at: number) => (text.charCodeAt(at) & 0xc0) === 0x80;
  while (stop > 0 && continues(stop) && to - stop < 4) stop--;
  if (continues(stop)) stop = to;
  return room < 0 ? text.slice(0, stop) : text.slice(0, stop) + mark(text.length - stop);
}
