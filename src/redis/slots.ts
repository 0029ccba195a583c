/**
 * The slots of a Redis Cluster: which one a key is in, and which master has it.
 * Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
 */
import type { Address } from '../config/settings.ts';
import type { Reply } from './replies.ts';

export const SLOTS = 16_384;

/** Consecutive slots, the last one included, and who has them. */
export interface SlotRange {
  readonly first: number;
  readonly last: number;
  readonly master: Address;
  readonly replicas: readonly Address[];
}

/** CRC-16/XMODEM, a byte at a time. */
const CRC_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc;
});

/** Of the key's hash tag: what stands between its first `{` and the next `}`, if that is anything. */
export function slotOf(key: string): number {
  const open = key.indexOf('{');
  const close = open < 0 ? -1 : key.indexOf('}', open + 1);
  const tag = close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of Buffer.from(tag)) crc = ((crc << 8) & 0xffff) ^ (CRC_TABLE[(crc >> 8) ^ byte] ?? 0);
  return crc % SLOTS;
}

/**
 * Reads the answer to CLUSTER SLOTS. Nodes that don't know their own address have that of the one who was
 * asked; what can't be read is left out: its slots count as having no master.
 */
export function readSlots(reply: Reply, asked: Address): SlotRange[] {
  if (!Array.isArray(reply)) return [];
  return reply.flatMap((range) => {
    if (!Array.isArray(range)) return [];
    const [first, last, node, ...others] = range;
    const [master] = addressOf(node, asked);
    const replicas = others.flatMap((other) => addressOf(other, asked));
    const known = typeof first === 'number' && typeof last === 'number' && master !== undefined;
    return known ? [{ first, last, master, replicas }] : [];
  });
}

function addressOf(node: Reply | undefined, asked: Address): Address[] {
  if (!Array.isArray(node) || typeof node[1] !== 'number') return [];
  const [host, port] = node;
  // '?' is a node whose name isn't known yet.
  if (host === '?') return [];
  return [{ host: typeof host === 'string' && host !== '' ? host : asked.host, port }];
}
