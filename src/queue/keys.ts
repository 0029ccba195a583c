/** Names in Redis. Every key of a shard has one hash tag: the shard is one slot of a Redis Cluster. */
import { Fault } from '../base/errors.ts';
import { LAYOUTS, type SealedBatch } from '../model/batch.ts';
import { isTable } from '../model/signal.ts';

/** Of the BullMQ queue of every shard; the shard is in the prefix. */
export const QUEUE_NAME = 'insert';

/** Those that belong to no shard: the routing, and what recognises repeated requests. */
export const ROUTING_KEY = 'sluice:routing';
export const RESEND_KEY = 'sluice:resend';

export function shardTag(shard: number): string {
  return `{s${shard}}`;
}

/** What stands before each key of the shard; the single key that its scripts are given. */
export function keyPrefix(shard: number): string {
  return `${shardTag(shard)}:`;
}

export function batchKey(shard: number, id: string): string {
  return `${keyPrefix(shard)}batch:${id}`;
}

/** Of a batch that is being divided, what became of its parts; of one that was a letter, which. */
export function partsKey(shard: number, id: string): string {
  return `${keyPrefix(shard)}parts:${id}`;
}

/** BullMQ's own naming: `<prefix>:<queue>:<job id>`. */
export function jobKeyPrefix(shard: number): string {
  return `${shardTag(shard)}:${QUEUE_NAME}:`;
}

/**
 * Reads what lua/common.lua wrote about a sealed batch: table, layout, rows, bytes, fragments and two times.
 * @throws Fault `batch_unreadable` when it is something else, such as what a newer version writes.
 */
export function parseDescription(shard: number, id: string, description: string): SealedBatch {
  const [table = '', layoutName = '', ...figures] = description.split(' ');
  const layout = LAYOUTS.find((known) => known === layoutName);
  const [rows, bytes, fragments, sealedAtMs, newestAtMs] = figures.map(Number);
  const complete = figures.length === 5 && figures.every((text) => /^\d+$/.test(text));
  if (!isTable(table) || layout === undefined || !complete) {
    const message = `batch ${id} of shard ${shard} is described as '${description}'`;
    throw new Fault('batch_unreadable', 'elsewhere', message);
  }
  return {
    id,
    shard,
    table,
    layout,
    rows: rows ?? 0,
    bytes: bytes ?? 0,
    fragments: fragments ?? 0,
    sealedAtMs: sealedAtMs ?? 0,
    newestAtMs: newestAtMs ?? 0,
  };
}
