/** Goal: docs/refusals.md has every reason that a client can be given, and none that there isn't. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { LATER_REASONS, NEVER_REASONS, REJECT_REASONS, SHARE_REASONS } from '../../src/model/outcome.ts';
import type { WrongCall } from '../../src/receive/answer.ts';

const WRONG: readonly WrongCall[] = ['unknown_path', 'wrong_method'];
/** Ends a connection without an answer, and is counted with the refusals. */
const UNANSWERED = ['connections'];

test('docs/refusals.md and the reasons of the program agree, both ways', () => {
  const page = readFileSync(new URL('../../docs/refusals.md', import.meta.url), 'utf8');
  const cells = [...page.matchAll(/^\| (`[a-z_`, ]+`) \|/gm)].map(([, cell]) => cell ?? '');
  const named = cells.flatMap((cell) => [...cell.matchAll(/`([a-z_]+)`/g)].map(([, name]) => name));
  const reasons = [...LATER_REASONS, ...SHARE_REASONS, ...NEVER_REASONS, ...WRONG, ...REJECT_REASONS, 'surprise'];
  expect(named.sort()).toEqual(reasons.filter((reason) => !UNANSWERED.includes(reason)).sort());
});
