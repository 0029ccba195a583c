/**
 * What the open blocks of the five metrics tables have in common: the columns that each begins with. A
 * table's own columns are added by the classes below it.
 */
import { Bytes } from './bytes.ts';
import { MapColumn } from './column.ts';
import type { Resource, Scope } from './levels.ts';
import type { Metric } from './metric.ts';
import type { Heads } from './native.ts';
import { LowRuns, MapRuns, NumberRuns, Runs, TextRuns } from './runs.ts';
import { TableBlock } from './table-block.ts';

export abstract class MetricBlock extends TableBlock {
  readonly attributes: MapColumn = new MapColumn();
  readonly startTime: Bytes = new Bytes(1024);
  readonly time: Bytes = new Bytes(1024);
  readonly flags: Bytes = new Bytes(1024);
  protected readonly metrics: Runs = new Runs();
  protected readonly temporality: NumberRuns = new NumberRuns(2);
  protected readonly monotonic: NumberRuns = new NumberRuns(0);
  private readonly name: LowRuns = new LowRuns();
  private readonly description: TextRuns = new TextRuns();
  private readonly unit: TextRuns = new TextRuns();
  private readonly resources: Runs = new Runs();
  private readonly service: LowRuns = new LowRuns();
  private readonly resourceSchemaUrl: TextRuns = new TextRuns();
  private readonly resourceAttributes: MapRuns = new MapRuns();
  private readonly scopes: Runs = new Runs();
  private readonly scopeSchemaUrl: TextRuns = new TextRuns();
  private readonly scopeName: TextRuns = new TextRuns();
  private readonly scopeVersion: TextRuns = new TextRuns();
  private readonly scopeAttributes: MapRuns = new MapRuns();
  private readonly scopeDropped: NumberRuns = new NumberRuns(2);
  private readonly columnCount: u32;
  private resourceEntered: u32 = 0;
  private scopeEntered: u32 = 0;
  private metricEntered: u32 = 0;
  private resourceBytes: u32 = 0;
  private scopeBytes: u32 = 0;
  private metricBytes: u32 = 0;

  constructor(heads: Heads, columnCount: u32) {
    super(heads);
    this.columnCount = columnCount;
    this.own(this.attributes);
    this.own(this.startTime);
    this.own(this.time);
    this.own(this.flags);
    this.own(this.metrics);
    this.own(this.temporality);
    this.own(this.monotonic);
    this.own(this.name);
    this.own(this.description);
    this.own(this.unit);
    this.own(this.resources);
    this.own(this.service);
    this.own(this.resourceSchemaUrl);
    this.own(this.resourceAttributes);
    this.own(this.scopes);
    this.own(this.scopeSchemaUrl);
    this.own(this.scopeName);
    this.own(this.scopeVersion);
    this.own(this.scopeAttributes);
    this.own(this.scopeDropped);
  }

  /** Before a point: what it appends while it is read can be taken back by `cancel`. */
  begin(): void {
    this.attributes.begin();
  }

  cancel(): void {
    this.attributes.cancel();
  }

  /** Ends the row of a point of this resource, scope and metric. */
  endPoint(resource: Resource, scope: Scope, metric: Metric, point: u32): void {
    if (this.metricEntered !== metric.generation) this.enter(resource, scope, metric);
    this.attributes.endRow();
    this.addRow(this.resourceBytes + this.scopeBytes + this.metricBytes, point);
  }

  private enter(resource: Resource, scope: Scope, metric: Metric): void {
    if (this.resourceEntered !== resource.generation) {
      this.resourceEntered = resource.generation;
      this.resources.begin(this.rows);
      this.resourceBytes = this.addRun(resource.writeService(this.service)
        + this.resourceSchemaUrl.put(resource.schemaUrl, resource.schemaUrlLength)
        + resource.attributes.write(this.resourceAttributes));
    }
    if (this.scopeEntered !== scope.generation) {
      this.scopeEntered = scope.generation;
      this.scopes.begin(this.rows);
      this.scopeBytes = this.addRun(this.scopeSchemaUrl.put(scope.schemaUrl, scope.schemaUrlLength)
        + this.scopeName.put(scope.name, scope.nameLength)
        + this.scopeVersion.put(scope.version, scope.versionLength)
        + this.scopeDropped.put(scope.droppedAttributes)
        + scope.attributes.write(this.scopeAttributes));
    }
    this.metricEntered = metric.generation;
    this.metrics.begin(this.rows);
    this.metricBytes = this.addRun(this.name.put(metric.name, metric.nameLength)
      + this.description.put(metric.description, metric.descriptionLength)
      + this.unit.put(metric.unit, metric.unitLength)
      + this.temporality.put(metric.temporality)
      + this.monotonic.put(metric.monotonic));
  }

  protected override leaveLevels(): void {
    this.resourceEntered = 0;
    this.scopeEntered = 0;
    this.metricEntered = 0;
  }

  override writeColumns(out: Bytes): void {
    const rows = this.rows;
    this.heads.begin(out, this.columnCount, rows);
    this.heads.put(out);
    this.resourceAttributes.write(out, this.resources, rows);
    this.heads.put(out);
    this.resourceSchemaUrl.write(out, this.resources, rows);
    this.heads.put(out);
    this.scopeName.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeVersion.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeAttributes.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeDropped.write(out, this.scopes, rows);
    this.heads.put(out);
    this.scopeSchemaUrl.write(out, this.scopes, rows);
    this.heads.put(out);
    this.service.write(out, this.resources, rows);
    this.heads.put(out);
    this.name.write(out, this.metrics, rows);
    this.heads.put(out);
    this.description.write(out, this.metrics, rows);
    this.heads.put(out);
    this.unit.write(out, this.metrics, rows);
    this.putMaps(out, this.attributes);
    this.putPlain(out, this.startTime);
    this.putPlain(out, this.time);
    this.putPlain(out, this.flags);
    this.writeOwnColumns(out);
  }

  /** Appends the columns that only this table has. */
  protected abstract writeOwnColumns(out: Bytes): void;

  protected writeTemporality(out: Bytes): void {
    this.heads.put(out);
    this.temporality.write(out, this.metrics, this.rows);
  }
}
