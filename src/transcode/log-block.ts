/** The open block of otel_logs. */
import { Bytes } from './bytes.ts';
import { LowColumn, MapColumn } from './column.ts';
import type { Resource, Scope } from './levels.ts';
import type { Heads } from './native.ts';
import { LowRuns, MapRuns, Runs, TextRuns } from './runs.ts';
import { TableBlock } from './table-block.ts';

const COLUMNS: u32 = 16;

export class LogBlock extends TableBlock {
  readonly timestamp: Bytes = new Bytes(1024);
  readonly traceId: Bytes = new Bytes(4096);
  readonly spanId: Bytes = new Bytes(4096);
  readonly traceFlags: Bytes = new Bytes(1024);
  readonly severityText: LowColumn = new LowColumn();
  readonly severityNumber: Bytes = new Bytes(1024);
  readonly body: Bytes = new Bytes(4096);
  readonly attributes: MapColumn = new MapColumn();
  readonly eventName: Bytes = new Bytes(1024);
  private readonly resources: Runs = new Runs();
  private readonly service: LowRuns = new LowRuns();
  private readonly resourceSchemaUrl: LowRuns = new LowRuns();
  private readonly resourceAttributes: MapRuns = new MapRuns();
  private readonly scopes: Runs = new Runs();
  private readonly scopeSchemaUrl: LowRuns = new LowRuns();
  private readonly scopeName: TextRuns = new TextRuns();
  private readonly scopeVersion: LowRuns = new LowRuns();
  private readonly scopeAttributes: MapRuns = new MapRuns();
  private resourceEntered: u32 = 0;
  private scopeEntered: u32 = 0;
  private resourceBytes: u32 = 0;
  private scopeBytes: u32 = 0;
  private begunBody: u32 = 0;

  constructor(heads: Heads) {
    super(heads);
    this.own(this.timestamp);
    this.own(this.traceId);
    this.own(this.spanId);
    this.own(this.traceFlags);
    this.own(this.severityText);
    this.own(this.severityNumber);
    this.own(this.body);
    this.own(this.attributes);
    this.own(this.eventName);
    this.own(this.resources);
    this.own(this.service);
    this.own(this.resourceSchemaUrl);
    this.own(this.resourceAttributes);
    this.own(this.scopes);
    this.own(this.scopeSchemaUrl);
    this.own(this.scopeName);
    this.own(this.scopeVersion);
    this.own(this.scopeAttributes);
  }

  /** Before a record: what it appends while it is read can be taken back by `cancel`. */
  begin(): void {
    this.attributes.begin();
    this.begunBody = this.body.size();
  }

  cancel(): void {
    this.attributes.cancel();
    this.body.cut(this.begunBody);
  }

  /** Ends the row of a record of this resource and scope. */
  endRecord(resource: Resource, scope: Scope, record: u32): void {
    if (this.scopeEntered !== scope.generation) this.enter(resource, scope);
    this.attributes.endRow();
    this.addRow(this.resourceBytes + this.scopeBytes, record);
  }

  private enter(resource: Resource, scope: Scope): void {
    if (this.resourceEntered !== resource.generation) {
      this.resourceEntered = resource.generation;
      this.resources.begin(this.rows);
      this.resourceBytes = this.addRun(resource.writeService(this.service)
        + this.resourceSchemaUrl.put(resource.schemaUrl, resource.schemaUrlLength)
        + resource.attributes.write(this.resourceAttributes));
    }
    this.scopeEntered = scope.generation;
    this.scopes.begin(this.rows);
    this.scopeBytes = this.addRun(this.scopeSchemaUrl.put(scope.schemaUrl, scope.schemaUrlLength)
      + this.scopeName.put(scope.name, scope.nameLength)
      + this.scopeVersion.put(scope.version, scope.versionLength)
      + scope.attributes.write(this.scopeAttributes));
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
    this.putPlain(out, this.traceFlags);
    this.putLowCardinality(out, this.severityText);
    this.putPlain(out, this.severityNumber);
    this.heads.put(out);
    this.service.write(out, this.resources, rows);
    this.putPlain(out, this.body);
    this.heads.put(out);
    this.resourceSchemaUrl.write(out, this.resources, rows);
    this.heads.put(out);
    this.resourceAttributes.write(out, this.resources, rows);
    this.heads.put(out);
    this.scopeSchemaUrl.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeName.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeVersion.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeAttributes.write(out, this.scopes, rows);
    this.putMaps(out, this.attributes);
    this.putPlain(out, this.eventName);
  }
}
