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
  ['MOVED', UNAVAILABLE],
  ['ASK', UNAVAILABLE],
  ['TRYAGAIN', UNAVAILABLE],
  ['NOREPLICAS', UNAVAILABLE],
  ['MISCONF', UNAVAILABLE],
  ['BUSY', UNAVAILABLE],
  ['NOAUTH', REFUSED],
  ['WRONGPASS', REFUSED],
  ['NOPERM', REFUSED],
]);

/** Another node of the cluster has the slot. Nothing was carried out. */
export class Moved extends Fault {
  readonly slot: number;
  /** Empty: the host of the node that says so. */
  readonly host: string;
  readonly port: number;

  constructor(text: string) {
    super(UNAVAILABLE.code, UNAVAILABLE.retry, `Redis answered: ${text}`);
    const [, slot = '', address = ''] = text.split(' ');
    const colon = address.lastIndexOf(':');
    this.slot = Number(slot);
    this.host = address.slice(0, Math.max(colon, 0));
    this.port = Number(address.slice(colon + 1));
  }
}

/**
 * The Fault for an error reply, `text` being the reply without its leading `-`.
 * `redis_unavailable` and `redis_full` pass with time, `redis_auth` and `redis_error` don't.
 */
export function faultOfReply(text: string): Fault {
  const word = wordOf(text);
  if (word === 'MOVED') return new Moved(text);
  const meaning = MEANINGS.get(word) ?? { code: 'redis_error', retry: 'never' };
  if (word !== 'ASK') return new Fault(meaning.code, meaning.retry, `Redis answered: ${text}`);
  // Not followed: our scripts name one key that is never there, so each would be sent away from its data.
  return new Fault(meaning.code, meaning.retry, `the slot is being moved to another node (${text})`);
}

/** Whether this reply says that the server is no master any more. */
export function meansDemoted(text: string): boolean {
  return wordOf(text) === 'READONLY';
}

/** The Fault for a connection that is missing or broke. Whether the command was carried out is unknown. */
export function unavailable(message: string, cause?: unknown): Fault {
  return new Fault('redis_unavailable', 'here', message, cause === undefined ? undefined : { cause });
}

function wordOf(text: string): string {
  const space = text.indexOf(' ');
  return space < 0 ? text : text.slice(0, space);
}
