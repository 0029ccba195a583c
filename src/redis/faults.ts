/** What Redis' refusals mean, told apart by the first word of the error reply and by nothing else. */
import { Fault, type Retry } from '../base/errors.ts';

interface Meaning {
  readonly code: string;
  readonly retry: Retry;
}

const UNAVAILABLE: Meaning = { code: 'redis_unavailable', retry: 'here' };
const REFUSED: Meaning = { code: 'redis_auth', retry: 'never' };

/** Words that Redis 7 begins its error replies with. All others are `redis_error`: a command we got wrong. */
const MEANINGS: ReadonlyMap<string, Meaning> = new Map([
  ['OOM', { code: 'redis_full', retry: 'here' }],
  ['NOSCRIPT', { code: 'redis_noscript', retry: 'here' }],
  ['LOADING', UNAVAILABLE],
  ['READONLY', UNAVAILABLE],
  ['MASTERDOWN', UNAVAILABLE],
  ['CLUSTERDOWN', UNAVAILABLE],
  ['TRYAGAIN', UNAVAILABLE],
  ['NOREPLICAS', UNAVAILABLE],
  ['MISCONF', UNAVAILABLE],
  ['BUSY', UNAVAILABLE],
  ['NOAUTH', REFUSED],
  ['WRONGPASS', REFUSED],
  ['NOPERM', REFUSED],
]);

/**
 * The Fault for an error reply, `text` being the reply without its leading `-`.
 * `redis_unavailable` and `redis_full` pass with time, `redis_auth` and `redis_error` don't.
 */
export function faultOfReply(text: string): Fault {
  const space = text.indexOf(' ');
  const word = space < 0 ? text : text.slice(0, space);
  const meaning = MEANINGS.get(word) ?? { code: 'redis_error', retry: 'never' };
  return new Fault(meaning.code, meaning.retry, `Redis answered: ${text}`);
}

/** The Fault for a connection that is missing or broke. Whether the command was carried out is unknown. */
export function unavailable(message: string, cause?: unknown): Fault {
  return new Fault('redis_unavailable', 'here', message, cause === undefined ? undefined : { cause });
}
