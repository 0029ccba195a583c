/** Readers of what Redis gives back, for all of the queue. */
import { assert } from '../base/errors.ts';
import type { Reply } from '../redis/replies.ts';

/** The elements of an array as text. */
export function texts(reply: Reply): string[] {
  assert(Array.isArray(reply), 'Redis answers with an array');
  return reply.map(String);
}

/** Undefined for what is no JSON: somebody else, or another version, has written it. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    return undefined;
  }
}
