/** Looks at a cluster in which everybody had time to answer. */
import type { Discoverer, Discovery } from '../../src/topology/discover.ts';

/** Below the bounds within which a host, or its Keeper, has to answer a look (topology/endpoint.ts: 5 and 3 s). */
const LOOK_MS_MAX = 2_500;
const LOOKS_MAX = 10;

/**
 * A look that was quick: who stands still for seconds counts as away, as it should, and on a busy machine anybody may.
 * Servers that are down say so at once.
 */
export async function lookAt(discoverer: Discoverer): Promise<Discovery> {
  for (let looks = 1; ; looks++) {
    const sinceMs = performance.now();
    const discovery = await discoverer.discover();
    if (performance.now() - sinceMs < LOOK_MS_MAX || looks === LOOKS_MAX) return discovery;
  }
}
