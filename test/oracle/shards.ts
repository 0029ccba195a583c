/**
 * Which shard a row belongs to, computed from the row as it is stored with Node's own checksum: apart from
 * the transcoder, and as the SQL of src/transcode/sharding.ts says.
 */
import { crc32 } from 'node:zlib';
import { signalOf, type Table } from '../../src/model/signal.ts';
import { shardOf } from '../../src/topology/route.ts';
import type { Topology } from '../../src/topology/topology.ts';
import type { Cell, Row } from './rows.ts';

const WRAP = 2 ** 32;

function text(cell: Cell | undefined): Buffer {
  return Buffer.from(typeof cell === 'string' ? cell : '', 'latin1');
}

function resourceKey(row: Row): number {
  const attributes = row['ResourceAttributes'];
  if (!Array.isArray(attributes)) throw new Error('a row without ResourceAttributes');
  const pairs: readonly Cell[] = attributes;
  return pairs.reduce<number>((sum, pair) => {
    const [key, value] = Array.isArray(pair) ? (pair as readonly Cell[]) : [];
    return (sum + crc32(Buffer.concat([text(key), Buffer.from('='), text(value)]))) % WRAP;
  }, 0);
}

/** The sharding key of a stored row. */
export function shardKeyOf(table: Table, row: Row): number {
  const traceId = text(row['TraceId']).toString();
  if (signalOf(table) === 'metrics') return (crc32(text(row['MetricName'])) + resourceKey(row)) % WRAP;
  return traceId === '' ? resourceKey(row) : Number.parseInt(traceId.slice(-8), 16);
}

/** The shard that a key falls to where the shards have these weights. */
export function shardByWeights(weights: readonly number[], key: number): number {
  const shards = weights.map((weight, shard) => ({ shard, weight, name: '', replicas: [] }));
  const topology: Topology = { cluster: '', shards };
  return shardOf(topology, key);
}
