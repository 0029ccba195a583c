/**
 * A large request in pieces: every Export<Signal>ServiceRequest is a run of top-level fields, so any cut
 * between two of them gives two requests that together say the same. Used for large requests only, to bound
 * the size of a block.
 */

/**
 * Views of `request`, each about `bytesMax` long at most (one ResourceSpans is never cut). A request that
 * can't be walked comes back whole: the transcoder says what is wrong with it, and where.
 */
export function sliceRequest(request: Uint8Array, bytesMax: number): Uint8Array[] {
  const slices: Uint8Array[] = [];
  let start = 0;
  let at = 0;
  while (at < request.length) {
    const end = fieldEnd(request, at);
    if (end < 0) return [request];
    if (end - start > bytesMax && at > start) {
      slices.push(request.subarray(start, at));
      start = at;
    }
    at = end;
  }
  slices.push(request.subarray(start));
  return slices;
}

const LENGTH_DELIMITED = 2;

/** Where the length-delimited field at `at` ends; -1 for any other field, or when it doesn't fit. */
function fieldEnd(bytes: Uint8Array, at: number): number {
  if (((bytes[at] ?? 0) & 7) !== LENGTH_DELIMITED || (bytes[at] ?? 0) > 127) return -1;
  let length = 0;
  let scale = 1;
  for (let i = at + 1; i < at + 6; i++) {
    const byte = bytes[i];
    if (byte === undefined) return -1;
    length += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) return i + 1 + length <= bytes.length ? i + 1 + length : -1;
  }
  return -1;
}
