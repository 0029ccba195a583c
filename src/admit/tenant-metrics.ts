/**
 * The series of tenants in the metrics: at most `tenants.metricsMax` have their own, the first of the list;
 * all others are `other`. One that has no name any more loses its series, so that settings which change often
 * don't pile up what nobody counts.
 */
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import { SHARE_REASONS, type ShareReason } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import { DEFAULT_TENANT } from '../model/tenant.ts';
import { UNITS, type Unit } from './leases.ts';

export type TenantInstruments = Pick<
  Instruments,
  'tenantItems' | 'tenantBytes' | 'tenantRefused' | 'tenantQuotaUsed'
>;

const OTHER = 'other';

export class TenantMetrics {
  readonly #instruments: TenantInstruments;
  #settings: Settings['tenants'] | undefined;
  #names = new Set<string>();

  constructor(instruments: TenantInstruments) {
    this.#instruments = instruments;
  }

  /** Who has a name from now on. */
  refresh(tenants: Settings['tenants']): void {
    if (tenants === this.#settings) return;
    this.#settings = tenants;
    const all = new Set([...tenants.list.map(({ name }) => name), DEFAULT_TENANT]);
    const names = new Set([...all].slice(0, tenants.metricsMax));
    for (const name of this.#names) if (!names.has(name)) this.#remove(name);
    this.#names = names;
  }

  taken(tenant: string, signal: Signal, items: number, bytes: number): void {
    const labels = { tenant: this.nameOf(tenant), signal };
    this.#instruments.tenantItems.inc(labels, items);
    this.#instruments.tenantBytes.inc(labels, bytes);
  }

  refused(tenant: string, reason: ShareReason): void {
    this.#instruments.tenantRefused.inc({ tenant: this.nameOf(tenant), reason });
  }

  /** @param quotas the part that is used, of all tenants and units with a quota */
  quotas(quotas: Iterable<{ readonly tenant: string; readonly unit: Unit; readonly used: number }>): void {
    const gauge = this.#instruments.tenantQuotaUsed;
    gauge.reset();
    for (const { tenant, unit, used } of quotas)
      if (this.#names.has(tenant)) gauge.set({ tenant, unit }, used);
  }

  /** Under which name a tenant is counted. */
  nameOf(tenant: string): string {
    return this.#names.has(tenant) ? tenant : OTHER;
  }

  #remove(tenant: string): void {
    const { tenantItems, tenantBytes, tenantRefused, tenantQuotaUsed } = this.#instruments;
    for (const counter of [tenantItems, tenantBytes])
      for (const signal of SIGNALS) counter.remove({ tenant, signal });
    for (const reason of SHARE_REASONS) tenantRefused.remove({ tenant, reason });
    for (const unit of UNITS) tenantQuotaUsed.remove({ tenant, unit });
  }
}
