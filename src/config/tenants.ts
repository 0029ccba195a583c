/** Tenants as they are configured: who they are, and what they may send. */
import { z } from 'zod';
import { type Kind, listOf } from './kind.ts';

/** Figures are of all gateways together; 0 is no limit. */
export interface TenantSettings {
  readonly name: string;
  /** Hashes of its tokens and API keys (admit/tokens.ts): several are valid at once, for rotation. */
  readonly tokens: readonly string[];
  /** Common names and alternative names of its clients' certificates. */
  readonly certificates: readonly string[];
  /** Its part under pressure, against those of the others. */
  readonly weight: number;
  readonly itemsPerSecond: number;
  /** Of requests after decompression. */
  readonly bytesPerSecond: number;
  /** How long it may send at twice its rate and more after it was quiet, in seconds of its rate. */
  readonly burstSeconds: number;
  /** From midnight to midnight, UTC. */
  readonly itemsPerDay: number;
  readonly bytesPerDay: number;
}

const TOKEN_HASH = /^sha256:[0-9a-f]{64}$/;
const hash = z.string().trim().regex(TOKEN_HASH);
const figure = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
const tenant = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  tokens: z.array(hash).default([]),
  certificates: z.array(z.string().min(1)).default([]),
  weight: z.number().min(0.01).max(1000).default(1),
  itemsPerSecond: figure.default(0),
  bytesPerSecond: figure.default(0),
  burstSeconds: z.number().min(1).max(3_600).default(10),
  itemsPerDay: figure.default(0),
  bytesPerDay: figure.default(0),
});

export const tenantsKind: Kind<readonly TenantSettings[]> = {
  schema: z.preprocess(listOf, z.array(tenant)) as z.ZodType<readonly TenantSettings[]>,
  wanted: 'a list of tenants, in the environment as JSON; tokens are sha256:… (tenants.md)',
  show: (value) => value.map(({ name }) => name).join(','),
  // Somebody may have put tokens where their hashes belong.
  holdsSecret: true,
};

export const tokenHashesKind: Kind<readonly string[]> = {
  schema: z.preprocess(
    (value) => (typeof value === 'string' ? value.split(/[\s,]+/).filter(Boolean) : value),
    z.array(hash),
  ),
  wanted: 'hashes sha256:… separated by commas, as `sluice tokens hash` prints them',
  show: (value) => value.map(() => '***').join(','),
  holdsSecret: true,
};
