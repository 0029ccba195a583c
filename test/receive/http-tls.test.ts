/** Goal: over TLS everything of http.test.ts holds as it does without. */
import { afterAll, describe } from 'vitest';
import { makeTempDir, removeTempDir } from '../support/services.ts';
import { serveAllWith } from './support.ts';
import { tlsOf } from './tls-front.ts';

const dir = makeTempDir();
const way = tlsOf(dir);
serveAllWith(way);

describe('over TLS', async () => {
  await import('./http.test.ts');
});

afterAll(() => {
  way.tls.close();
  removeTempDir(dir);
});
