/** The script of lua/lease.lua: one settlement of a gateway with what all gateways share of a tenant. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../base/errors.ts';
import type { RedisCommands } from '../redis/client.ts';
import { Script } from '../redis/scripts.ts';

/** Of items or bytes; one that isn't limited has a rate of 0. */
export interface SettleUnit {
  readonly perSecond: number;
  readonly capacity: number;
  /** What was taken ahead and not used; below 0 what was used beyond. */
  readonly back: number;
  readonly wanted: number;
  readonly used: number;
}

export interface SettledUnit {
  readonly granted: number;
  /** Of what all gateways share; below 0 what is owed. */
  readonly left: number;
  /** By all gateways since midnight. */
  readonly usedToday: number;
}

export interface Settled {
  readonly items: SettledUnit;
  readonly bytes: SettledUnit;
  /** Until midnight, UTC. */
  readonly dayEndsInMs: number;
}

const SCRIPT = new Script(readFileSync(join(import.meta.dirname, 'lua', 'lease.lua'), 'utf8'));

export function shareKey(tenant: string): string {
  return `sluice:share:${tenant}`;
}

/** Rejects with the Fault of Redis: then it isn't known whether it was done. */
export async function settle(
  redis: RedisCommands,
  tenant: string,
  items: SettleUnit,
  bytes: SettleUnit,
): Promise<Settled> {
  const reply = await SCRIPT.run(redis, [shareKey(tenant)], [...argumentsOf(items), ...argumentsOf(bytes)]);
  assert(Array.isArray(reply) && reply.length === 7, 'the script answers with seven figures');
  const figures = reply.map(Number);
  const unit = (at: number): SettledUnit => ({
    granted: figures[at] ?? 0,
    left: figures[at + 1] ?? 0,
    usedToday: figures[at + 2] ?? 0,
  });
  return { items: unit(0), bytes: unit(3), dayEndsInMs: figures[6] ?? 0 };
}

function argumentsOf({ perSecond, capacity, back, wanted, used }: SettleUnit): string[] {
  return [perSecond, capacity, back, wanted, used].map(String);
}
