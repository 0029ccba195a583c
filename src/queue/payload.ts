/** The bytes of a batch, as its fragments lie in Redis one after another. */
import type { LeanConnection } from '../redis/lean.ts';

/** About how much of a batch is asked for at once: what a reader costs in Redis' output buffers. */
const READ_BYTES = 1_048_576;

/**
 * Yields views that the reader owns, of the first so many fragments; fewer than announced, or none, where
 * Redis has no more. Reads at the pace of the reader, well under 1 MiB lies in between.
 * @param connection of its own: it breaks when the reader leaves early
 * @param fragments in the list, which together have so many bytes
 * @throws Fault of Redis
 */
export async function* payload(
  connection: LeanConnection,
  key: string,
  { fragments, bytes }: { readonly fragments: number; readonly bytes: number },
  first = fragments,
): AsyncGenerator<Uint8Array, void, undefined> {
  const step = Math.max(1, Math.floor((READ_BYTES * fragments) / Math.max(1, bytes)));
  for (let from = 0; from < first; from += step) {
    const to = Math.min(first, from + step) - 1;
    yield* connection.stream(['LRANGE', key, from, to]);
  }
}
