/**
 * Goal: everything of http.test.ts holds on node's own server too, which serves without TLS where connections
 * of one address are bounded.
 */
import { describe } from 'vitest';
import { serveAllWith } from './support.ts';

serveAllWith({ connectionsPerAddressMax: 1000 });

describe('with connectionsPerAddressMax', async () => {
  await import('./http.test.ts');
});
