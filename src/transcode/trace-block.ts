/** The open block of otel_traces. */
import { Bytes, Column } from './bytes.ts';
import { TEXT_SPAN_KIND, TEXT_STATUS_CODE } from './codes.ts';
import { LowColumn, MapColumn } from './column.ts';
import type { Resource, Scope } from './levels.ts';
import { alloc, load32, store32, zero } from './memory.ts';
import type { Heads } from './native.ts';
import { putLow, putMap } from './native.ts';
import { LowRuns, MapRuns, Runs, TextRuns } from './runs.ts';
import { TableBlock } from './table-block.ts';
import { textAt, textLength } from './texts.ts';

const COLUMNS: u32 = 22;
const ENUM_MAX: u32 = 8;

/** A LowCardinality(String) with the names of an enum: the id of each name is looked up once per block. */
export class EnumColumn extends Column {
  readonly column: LowColumn = new LowColumn();
  private readonly known: u32 = alloc(ENUM_MAX * 4);
  private readonly firstText: u32;

  /** @param firstText the slot of the name of 0; the others follow. */
  constructor(firstText: u32) {
    super();
    this.firstText = firstText;
    this.forget();
  }

  private forget(): void {
    zero(this.known, ENUM_MAX * 4);
  }

  put(value: u32): void {
    const slot = this.known + (value << 2);
    if (load32(slot) === 0) {
      const text = this.firstText + value;
      store32(slot, this.column.dictionary.id(textAt(text), textLength(text)) + 1);
    }
    this.column.ids.put32(load32(slot) - 1);
  }

  override size(): u32 {
    return this.column.size();
  }

  override keep(): void {
    this.column.keep();
  }

  override restore(): void {
    this.column.restore();
    this.forget();
  }

  override clear(): void {
    this.column.clear();
    this.forget();
  }
}

/** Events: one row each; `ends` says where those of a span end. */
export class EventColumns {
  readonly ends: Bytes = new Bytes(1024);
  readonly time: Bytes = new Bytes(1024);
  readonly name: LowColumn = new LowColumn();
  readonly attributes: MapColumn = new MapColumn();
  private begunNames: u32 = 0;

  begin(): void {
    this.attributes.begin();
    this.begunNames = this.name.dictionary.count;
  }

  cancel(): void {
    this.attributes.cancel();
    const count = this.attributes.ends.size() >>> 3;
    this.time.cut(count << 3);
    this.name.ids.cut(count << 2);
    this.name.dictionary.cut(this.begunNames);
  }

  endSpan(): void {
    this.ends.putCount(this.attributes.ends.size() >>> 3);
  }
}

export class LinkColumns {
  readonly ends: Bytes = new Bytes(1024);
  readonly traceId: Bytes = new Bytes(1024);
  readonly spanId: Bytes = new Bytes(1024);
  readonly traceState: Bytes = new Bytes(1024);
  readonly attributes: MapColumn = new MapColumn();
  private begunTraceIds: u32 = 0;
  private begunSpanIds: u32 = 0;
  private begunTraceStates: u32 = 0;

  begin(): void {
    this.attributes.begin();
    this.begunTraceIds = this.traceId.size();
    this.begunSpanIds = this.spanId.size();
    this.begunTraceStates = this.traceState.size();
  }

  cancel(): void {
    this.attributes.cancel();
    this.traceId.cut(this.begunTraceIds);
    this.spanId.cut(this.begunSpanIds);
    this.traceState.cut(this.begunTraceStates);
  }

  endSpan(): void {
    this.ends.putCount(this.attributes.ends.size() >>> 3);
  }
}

export class TraceBlock extends TableBlock {
  readonly timestamp: Bytes = new Bytes(1024);
  readonly traceId: Bytes = new Bytes(4096);
  readonly spanId: Bytes = new Bytes(4096);
  readonly parentSpanId: Bytes = new Bytes(4096);
  readonly traceState: Bytes = new Bytes(1024);
  readonly name: LowColumn = new LowColumn();
  readonly kind: EnumColumn = new EnumColumn(TEXT_SPAN_KIND);
  readonly attributes: MapColumn = new MapColumn();
  readonly duration: Bytes = new Bytes(1024);
  readonly statusCode: EnumColumn = new EnumColumn(TEXT_STATUS_CODE);
  readonly statusMessage: Bytes = new Bytes(1024);
  readonly events: EventColumns = new EventColumns();
  readonly links: LinkColumns = new LinkColumns();
  private readonly resources: Runs = new Runs();
  private readonly service: LowRuns = new LowRuns();
  private readonly resourceAttributes: MapRuns = new MapRuns();
  private readonly scopes: Runs = new Runs();
  private readonly scopeName: TextRuns = new TextRuns();
  private readonly scopeVersion: TextRuns = new TextRuns();
  private resourceEntered: u32 = 0;
  private scopeEntered: u32 = 0;
  private resourceBytes: u32 = 0;
  private scopeBytes: u32 = 0;

  constructor(heads: Heads) {
    super(heads);
    this.own(this.timestamp);
    this.own(this.traceId);
    this.own(this.spanId);
    this.own(this.parentSpanId);
    this.own(this.traceState);
    this.own(this.name);
    this.own(this.kind);
    this.own(this.attributes);
    this.own(this.duration);
    this.own(this.statusCode);
    this.own(this.statusMessage);
    this.own(this.events.ends);
    this.own(this.events.time);
    this.own(this.events.name);
    this.own(this.events.attributes);
    this.own(this.links.ends);
    this.own(this.links.traceId);
    this.own(this.links.spanId);
    this.own(this.links.traceState);
    this.own(this.links.attributes);
    this.own(this.resources);
    this.own(this.service);
    this.own(this.resourceAttributes);
    this.own(this.scopes);
    this.own(this.scopeName);
    this.own(this.scopeVersion);
  }

  /** Before a span: what it appends while it is read can be taken back by `cancel`. */
  begin(): void {
    this.attributes.begin();
    this.events.begin();
    this.links.begin();
  }

  cancel(): void {
    this.attributes.cancel();
    this.events.cancel();
    this.links.cancel();
  }

  /** Ends the row of a span of this resource and scope. */
  endSpan(resource: Resource, scope: Scope, span: u32): void {
    if (this.scopeEntered !== scope.generation) this.enter(resource, scope);
    this.attributes.endRow();
    this.events.endSpan();
    this.links.endSpan();
    this.addRow(this.resourceBytes + this.scopeBytes, span);
  }

  private enter(resource: Resource, scope: Scope): void {
    if (this.resourceEntered !== resource.generation) {
      this.resourceEntered = resource.generation;
      this.resources.begin(this.rows);
      this.resourceBytes = this.addRun(resource.writeService(this.service)
        + resource.attributes.write(this.resourceAttributes));
    }
    this.scopeEntered = scope.generation;
    this.scopes.begin(this.rows);
    this.scopeBytes = this.addRun(this.scopeName.put(scope.name, scope.nameLength)
      + this.scopeVersion.put(scope.version, scope.versionLength));
  }

  protected override leaveLevels(): void {
    this.resourceEntered = 0;
    this.scopeEntered = 0;
  }

  override writeColumns(out: Bytes): void {
    const rows = this.rows;
    this.heads.begin(out, COLUMNS, rows);
    this.putPlain(out, this.timestamp);
    this.putPlain(out, this.traceId);
    this.putPlain(out, this.spanId);
    this.putPlain(out, this.parentSpanId);
    this.putPlain(out, this.traceState);
    this.putLowCardinality(out, this.name);
    this.putLowCardinality(out, this.kind.column);
    this.heads.put(out);
    this.service.write(out, this.resources, rows);
    this.heads.put(out);
    this.resourceAttributes.write(out, this.resources, rows);
    this.heads.put(out);
    this.scopeName.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeVersion.write(out, this.scopes, rows);
    this.putMaps(out, this.attributes);
    this.putPlain(out, this.duration);
    this.putLowCardinality(out, this.statusCode.column);
    this.putPlain(out, this.statusMessage);
    this.writeEvents(out);
    this.writeLinks(out);
  }

  private writeEvents(out: Bytes): void {
    const events = this.events;
    this.putPlainArrays(out, events.ends, events.time);
    this.putPlain(out, events.ends);
    putLow(out, events.name);
    this.putPlain(out, events.ends);
    putMap(out, events.attributes);
  }

  private writeLinks(out: Bytes): void {
    const links = this.links;
    this.putPlainArrays(out, links.ends, links.traceId);
    this.putPlainArrays(out, links.ends, links.spanId);
    this.putPlainArrays(out, links.ends, links.traceState);
    this.putPlain(out, links.ends);
    putMap(out, links.attributes);
  }
}
