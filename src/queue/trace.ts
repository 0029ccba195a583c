/** What lua/trace.lua answers: one batch, whatever became of it. */
import { assert } from '../base/errors.ts';
import type { BatchTrace } from '../model/batch.ts';

const STATES: readonly BatchTrace['state'][] = ['open', 'sealed', 'written', 'dead'];

/** @param reply state and description; of a written batch the description goes on with how it was written */
export function parseTrace(shard: number, id: string, reply: readonly string[]): BatchTrace {
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
