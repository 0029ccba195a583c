/**
 * The way through one request: resources, scopes, (metrics,) records, in the order sent. Each record is
 * decided by the rules, redacted, and then held against the limits, as are its resource and its scope.
 */
import type { Signal } from '../model/signal.ts';
import { type ScanBounds, type TimeWindow, bitOf } from './bounds.ts';
import { OF_METRIC, OF_RECORD, OF_RESOURCE, OF_SCOPE } from './conditions.ts';
import { Envelope } from './envelope.ts';
import { DATA_AT, DATA_END, DATA_FIELD, DATA_TAG, readMetric } from './metric.ts';
import type { Plan, PlannedRule } from './plan.ts';
import { Redactor } from './redact.ts';
import { keepsRecord } from './sample.ts';
import type { Scan } from './scan.ts';
import { Shared, type Scans, allHold, holding } from './shared.ts';
import { LOG, METRIC_KINDS, RESOURCE, SCOPE, SPAN } from './shapes.ts';
import { Sieve } from './sieve.ts';
import { Sink } from './sink.ts';
import { Tally } from './tally.ts';
import { Trimmer } from './trim.ts';
import { POS, UNUSUAL, eachField, readLength, readTag, skip } from './wire.ts';

/** Limits as the walk needs them. */
export interface Limits {
  readonly bounds: ScanBounds;
  /** Whether any of them is set. */
  readonly areSet: boolean;
  /** The bits of those beyond which records are refused. */
  readonly refuse: number;
  readonly isDryRun: boolean;
}

export interface WalkContext {
  readonly signal: Signal;
  readonly plan: Plan;
  readonly scans: Scans;
  readonly limits: Limits;
  readonly window: TimeWindow | undefined;
  readonly overflow: Overflow | undefined;
}

/** Whether a data point's series is beyond the limit. @param metric gives the name of its metric */
export type Overflow = (ordinal: number, metric: () => string) => boolean;

// Tags of the messages around the records, the same for all signals.
const RESOURCE_ITEM = 10;
const HEAD = 10;
const SCOPE_ITEM = 18;
const RECORD = 18;
const POINT = 10;

const TOO_MANY_SERIES = bitOf('series');
const TIME_BITS = bitOf('time_past') | bitOf('time_future');

export class Walk {
  readonly tally: Tally;
  readonly #context: WalkContext;
  readonly #plan: Plan;
  readonly #limits: Limits;
  readonly #request: Buffer;
  readonly #envelope: Envelope;
  readonly #scans: Scans;
  readonly #resource: Shared;
  readonly #scope: Shared;
  #active: readonly PlannedRule[] = [];
  /** The redactions that hold for the record at hand. */
  readonly #redactions: PlannedRule[] = [];
  readonly #recordRedacted: Uint8Array;
  /** Whether something of the record was replaced. */
  #hasRedacted = false;
  /** The bytes of the message at hand: where they are after what was done to them so far. */
  #bytes: Buffer;
  #start = 0;
  #end = 0;
  readonly #scratch: Sink[] = [];
  readonly #sieve: Sieve;
  readonly #metricName = () => {
    const { bytes, nameAt, nameEnd } = this.#scans.metric;
    return bytes.toString('utf8', nameAt, nameEnd);
  };
  #ordinal = 0;
  #kept = 0;
  #seen = 0;

  constructor(request: Buffer, context: WalkContext) {
    const { plan, limits } = context;
    this.#context = context;
    this.#plan = plan;
    this.#limits = limits;
    this.#request = request;
    this.#bytes = request;
    this.#envelope = new Envelope(request);
    this.#scans = context.scans;
    this.#scans.record.window = context.window;
    const rules = plan.rules.length;
    this.tally = new Tally(rules);
    this.#resource = new Shared(rules);
    this.#scope = new Shared(rules);
    this.#recordRedacted = new Uint8Array(rules);
    this.#sieve = new Sieve(request, rules);
  }

  /**
   * The request as it is to be stored: itself when nothing changed.
   * @throws MALFORMED, UNUSUAL
   */
  run(): Uint8Array {
    eachField(this.#request, 0, this.#request.length, (tag, header, at, end) => {
      if (tag === RESOURCE_ITEM) this.#resourceItem(header, at, end);
    });
    return this.#envelope.bytes();
  }

  #resourceItem(header: number, start: number, end: number): void {
    const [keptBefore, seenBefore] = [this.#kept, this.#seen];
    this.#envelope.enter(RESOURCE_ITEM, header, start);
    const rest = this.#head(RESOURCE, this.#resource, this.#plan.rules, start, end);
    eachField(this.#request, rest, end, (tag, field, at, to) => {
      // Before what it is of, and in one piece: else the request is brought into this form.
      if (tag === HEAD) throw UNUSUAL;
      if (tag === SCOPE_ITEM) this.#scopeItem(field, at, to);
    });
    this.#leave(end, keptBefore, seenBefore);
  }

  #scopeItem(header: number, start: number, end: number): void {
    const [keptBefore, seenBefore] = [this.#kept, this.#seen];
    this.#envelope.enter(SCOPE_ITEM, header, start);
    const rest = this.#head(SCOPE, this.#scope, this.#resource.active, start, end);
    this.#setActive(this.#scope.active);
    const { signal } = this.#context;
    const shape = signal === 'traces' ? SPAN : LOG;
    if (signal === 'metrics') {
      eachField(this.#request, rest, end, (tag, field, at, to) => {
        if (tag === HEAD) throw UNUSUAL;
        if (tag === RECORD) this.#metric(field, at, to);
      });
    } else this.#records(shape, RECORD, rest, end);
    this.#leave(end, keptBefore, seenBefore);
  }

  /** Ends a message; it is left out if it had records and has none any more. */
  #leave(end: number, keptBefore: number, seenBefore: number): void {
    if (this.#seen > seenBefore && this.#kept === keptBefore) this.#envelope.remove(end);
    else this.#envelope.leave(end);
  }

  #setActive(active: readonly PlannedRule[]): void {
    this.#active = active;
    this.#scans.record.askKeys(active.some(({ asksKeys }) => asksKeys));
  }

  /** Reads the resource or scope that [start, end) may begin with. @returns where the rest begins */
  #head(shape: number, shared: Shared, rules: readonly PlannedRule[], start: number, end: number): number {
    const request = this.#request;
    let at = start;
    let to = start;
    if (start < end && readTag(request, start, end) === HEAD) {
      const n = readLength(request, POS, end);
      at = POS;
      to = at + n;
    }
    const scan = shape === RESOURCE ? this.#scans.resource : this.#scans.scope;
    scan.read(shape, request, at, to);
    shared.active = holding(rules, shape === RESOURCE ? OF_RESOURCE : OF_SCOPE, scan, shared.active);
    shared.redacted.fill(0);
    shared.hasRedacted = false;
    this.#take(request, at, to);
    this.#redactShared(shape, shared, scan);
    if (this.#bytes !== request) scan.read(shape, this.#bytes, this.#start, this.#end);
    shared.over = scan.over;
    const { refuse, isDryRun } = this.#limits;
    if (scan.over !== 0 && !isDryRun && (scan.over & refuse) === 0) this.#trim(shape, undefined, false);
    if (this.#bytes === request) return to;
    this.#envelope.replace(start, to).field(HEAD, this.#bytes, this.#start, this.#end);
    return to;
  }

  /** Rules that ask nothing of what is further down redact resources and scopes too. */
  #redactShared(shape: number, shared: Shared, scan: Scan): void {
    if (!this.#plan.redacts) return;
    const level = shape === RESOURCE ? OF_RESOURCE : OF_SCOPE;
    for (const rule of shared.active) {
      if (rule.depth > level) continue;
      if (rule.action === 'keep') return;
      if (!this.#isWanted(rule, scan.hasRedacted, this.#start, this.#end)) continue;
      if (!this.#redact(shape, rule)) continue;
      shared.hasRedacted = true;
      shared.redacted[rule.index] = 1;
    }
  }

  #metric(header: number, start: number, end: number): void {
    const scan = this.#scans.metric;
    readMetric(scan, this.#request, start, end);
    const [dataTag, data, dataEnd] = [DATA_TAG, DATA_AT, DATA_END];
    const kind = METRIC_KINDS.get(dataTag);
    if (kind === undefined) return;
    scan.metricKind = kind.name;
    const active = holding(this.#scope.active, OF_METRIC, scan, this.#active);
    if (active !== this.#active) this.#setActive(active);
    const [keptBefore, seenBefore] = [this.#kept, this.#seen];
    this.#envelope.enter(RECORD, header, start);
    this.#envelope.enter(dataTag, DATA_FIELD, data);
    this.#records(kind.point, POINT, data, dataEnd);
    this.#envelope.leave(dataEnd);
    this.#leave(end, keptBefore, seenBefore);
  }

  /** Those among the fields at [start, end). */
  #records(shape: number, wanted: number, start: number, end: number): void {
    const request = this.#request;
    const isIdle = this.#isIdle();
    let idle = 0;
    let p = start;
    while (p < end) {
      const field = p;
      const tag = readTag(request, p, end);
      p = POS;
      if ((tag & 7) !== 2) {
        p = skip(request, p, end, tag);
        continue;
      }
      const n = readLength(request, p, end);
      const at = POS;
      p = at + n;
      if (tag === wanted) {
        if (isIdle) idle++;
        else this.#record(shape, tag, field, at, p);
      } else if (tag === HEAD) throw UNUSUAL;
    }
    this.#seen += idle;
    this.#kept += idle;
  }

  /** Whether nothing is asked of the records at hand: they stay as they are. */
  #isIdle(): boolean {
    if (this.#active.length > 0 || this.#limits.areSet || this.#context.overflow !== undefined) return false;
    return !this.#resource.hasRedacted && !this.#scope.hasRedacted;
  }

  #record(shape: number, tag: number, field: number, start: number, end: number): void {
    this.#seen++;
    const scan = this.#scans.record;
    const { overflow } = this.#context;
    const overflows = overflow?.(this.#ordinal++, this.#metricName) ?? false;
    let over = (overflows ? TOO_MANY_SERIES : 0) | this.#resource.over | this.#scope.over;
    const request = this.#request;
    this.#take(request, start, end);
    if (this.#redactions.length > 0) this.#redactions.length = 0;
    this.#hasRedacted = false;
    if (this.#active.length > 0 || this.#limits.areSet) {
      scan.read(shape, request, start, end);
      if (this.#active.length > 0 && !this.#decide(scan, start, end)) {
        this.#envelope.replace(field, end);
        return;
      }
    } else scan.over = 0;
    if (this.#redactions.length > 0) this.#redactRecord(shape, scan, start, end);
    over |= scan.over;
    if (over !== 0 && !this.#judge(shape, over, scan.over, overflows)) {
      this.#envelope.replace(field, end);
      return;
    }
    this.#kept++;
    if (this.#hasRedacted || this.#resource.hasRedacted || this.#scope.hasRedacted) this.#countRedacted();
    if (this.#bytes !== request) {
      this.#envelope.replace(field, end).field(tag, this.#bytes, this.#start, this.#end);
    }
  }

  /** Asks the rules. @returns whether the record stays */
  #decide(scan: Scan, start: number, end: number): boolean {
    const active = this.#active;
    const { slotAt, hasRedacted } = scan;
    const first = scan.bytes[scan.nameAt] as number;
    for (let i = 0; i < active.length; i++) {
      const rule = active[i] as PlannedRule;
      // What most records lack, looked at before anything is called.
      const { needsSlot, starts } = rule;
      if (needsSlot >= 0 && (slotAt[needsSlot] as number) < 0) continue;
      if (starts !== undefined && starts[first] === 0) continue;
      if (rule.needsRedacted && !hasRedacted) continue;
      if (!allHold(rule, OF_RECORD, scan)) continue;
      switch (rule.action) {
        case 'keep':
          return true;
        case 'redact':
          // What one has written the next one sees.
          if (this.#redactions.length > 0 || this.#isWanted(rule, scan.hasRedacted, start, end))
            this.#redactions.push(rule);
          continue;
        case 'sample':
          if (keepsRecord(rule.threshold, scan.bytes, scan.traceIdAt, start, end)) continue;
      }
      this.tally.countRule(this.tally.filtered, rule.index);
      return false;
    }
    return true;
  }

  #redactRecord(shape: number, scan: Scan, start: number, end: number): void {
    const { hasRedacted } = scan;
    for (let i = 0; i < this.#redactions.length; i++) {
      const rule = this.#redactions[i] as PlannedRule;
      if (!this.#isWanted(rule, hasRedacted, start, end) || !this.#redact(shape, rule)) continue;
      if (!this.#hasRedacted) this.#recordRedacted.fill(0);
      this.#hasRedacted = true;
      this.#recordRedacted[rule.index] = 1;
    }
    if (this.#hasRedacted) scan.read(shape, this.#bytes, this.#start, this.#end);
  }

  /** Whether the rule may replace something of what is at [start, end) of the request. */
  #isWanted({ redaction, index }: PlannedRule, hasRedacted: boolean, start: number, end: number): boolean {
    if (redaction === undefined) return false;
    if (hasRedacted && redaction.hasKeys) return true;
    if (redaction.replacer === undefined) return false;
    // What another rule has written isn't in the request.
    if (redaction.sieve === undefined || this.#bytes !== this.#request) return true;
    return this.#sieve.finds(redaction.sieve, redaction.needs, index, start, end);
  }

  /** Applies limits to the record. @returns whether it stays */
  #judge(shape: number, over: number, own: number, overflows: boolean): boolean {
    const { isDryRun, refuse } = this.#limits;
    if (isDryRun) {
      this.tally.countEach(this.tally.over, over);
      return true;
    }
    const refused = over & refuse;
    if (refused !== 0) {
      this.tally.countFirst(this.tally.rejected, refused);
      return false;
    }
    this.tally.countEach(this.tally.trimmed, over);
    const window = (own & TIME_BITS) === 0 ? undefined : this.#context.window;
    if (own !== 0 || overflows) this.#trim(shape, window, overflows);
    return true;
  }

  #countRedacted(): void {
    const record = this.#hasRedacted;
    for (let i = 0; i < this.#plan.rules.length; i++) {
      const isHit =
        this.#resource.redacted[i] || this.#scope.redacted[i] || (record && this.#recordRedacted[i]);
      if (isHit) this.tally.countRule(this.tally.redacted, i);
    }
  }

  #take(bytes: Buffer, start: number, end: number): void {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
  }

  /** Redacts the message at hand; says whether it changed. */
  #redact(shape: number, { redaction }: PlannedRule): boolean {
    if (redaction === undefined) return false;
    const sink = this.#spare();
    const redactor = new Redactor(this.#bytes, sink, redaction, this.#limits.bounds.nestingMax);
    if (!redactor.message(shape, this.#start, this.#end)) return false;
    this.#take(sink.bytes, 0, sink.at);
    return true;
  }

  #trim(shape: number, window: TimeWindow | undefined, overflows: boolean): void {
    const sink = this.#spare();
    const trimmer = new Trimmer(this.#bytes, sink, this.#limits.bounds);
    trimmer.message(shape, this.#start, this.#end, window, overflows);
    this.#take(sink.bytes, 0, sink.at);
  }

  /** A sink without the message at hand. */
  #spare(): Sink {
    const spare = this.#scratch.find(({ bytes }) => bytes !== this.#bytes);
    const sink = spare ?? new Sink();
    if (spare === undefined) this.#scratch.push(sink);
    sink.clear();
    return sink;
  }
}
