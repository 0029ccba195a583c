/** One batch, whatever became of it: for who follows a record. */
import { assert } from '../base/errors.ts';
import type { BatchTrace } from '../model/batch.ts';
import type { RedisCommands } from '../redis/client.ts';
import { keyPrefix } from './keys.ts';
import { texts } from './read.ts';
import { SCRIPTS } from './scripts.ts';

const STATES: readonly BatchTrace['state'][] = ['open', 'sealed', 'written', 'dead'];

/** Batches that one step of a search looks at. */
const SCAN_COUNT = 1_000;

/**
 * What is known of a batch, by its id, or by the name that it had while it was open; undefined for one that
 * nobody knows (any more). Rejects with the Faults of src/redis.
 */
export async function traceBatch(
  redis: RedisCommands,
  shard: number,
  idOrName: string,
): Promise<BatchTrace | undefined> {
  const reply = await SCRIPTS.trace.run(redis, [keyPrefix(shard)], [idOrName]);
  if (reply !== null) return parseTrace(shard, idOrName, texts(reply));
  const id = await idOf(redis, shard, idOrName);
  return id === undefined ? undefined : traceBatch(redis, shard, id);
}

/** The id of a batch that was sealed since it had this name. */
async function idOf(redis: RedisCommands, shard: number, name: string): Promise<string | undefined> {
  if (!/^[0-9a-f]+-\d+-\d+$/.test(name)) return undefined;
  for (const key of ['meta', 'trail'].map((of) => keyPrefix(shard) + of)) {
    for (let cursor = '0', first = true; first || cursor !== '0'; first = false) {
      const match = ['MATCH', `${name}.*`, 'COUNT', SCAN_COUNT];
      const page = await redis.command(['HSCAN', key, cursor, ...match], key);
      assert(Array.isArray(page), 'HSCAN answers with an array');
      const [id] = texts(page[1] ?? []);
      if (id !== undefined) return id;
      cursor = String(page[0]);
    }
  }
  return undefined;
}

/** @param reply state and description; of a written batch the description goes on with how it was written */
function parseTrace(shard: number, id: string, reply: readonly string[]): BatchTrace {
  const [word = '', description = ''] = reply;
  const state = STATES.find((known) => known === word);
  assert(state !== undefined, `a batch is in one of the states ${STATES.join(', ')}, not "${word}"`);
  const [table = '', layout = '', ...figures] = description.split(' ');
  const numbers = figures.slice(0, 5).map(Number);
  const [rows = 0, bytes = 0, fragments = 0, sealedAtMs = 0, newestAtMs = 0] = numbers;
  const written = state === 'written' ? figures.slice(5) : [];
  const [writtenAtMs, insertMs] = written.slice(0, 2).map(Number);
  return {
    state,
    id,
    shard,
    table,
    layout,
    rows,
    bytes,
    fragments,
    sealedAtMs,
    newestAtMs,
    writtenAtMs,
    insertMs,
    replica: state === 'written' ? written.slice(2).join(' ') : undefined,
  };
}
