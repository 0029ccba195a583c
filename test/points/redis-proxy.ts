/**
 * A proxy before a Redis that knows where a command and its answer begin and end, so that a test can stop or
 * cut a connection at an exact step: RESP as Redis 7 speaks it, and the commands by what they mean here.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import net, { type AddressInfo, type Socket } from 'node:net';
import { Fault } from '../../src/base/errors.ts';
import { SCRIPTS } from '../../src/queue/scripts.ts';
import type { Reply } from '../../src/redis/replies.ts';
import type { CommandPart } from '../../src/redis/resp.ts';
import { ANY_ANSWER, type Asked, type Place, Stop, Stops } from './stop.ts';

interface BullmqScript {
  readonly name: string;
  readonly content: string;
}

const BULLMQ_TEXTS: ReadonlyMap<string, string> = new Map(
  Object.values(createRequire(import.meta.url)('bullmq/dist/cjs/scripts') as Record<string, BullmqScript>).map(
    ({ name, content }) => [name, content],
  ),
);

/** The command's words, bytes as latin1. */
export type Command = readonly string[];

/** What a command is, in a word for messages. */
export interface Kind {
  readonly what: string;
  readonly fits: (command: Command) => boolean;
  /** Where only some answers count; for stops after the command was carried out. */
  readonly answerFits?: (answer: Buffer) => boolean;
}

export class RedisProxy {
  /** Whoever connects through it is at that port. */
  readonly port: number;
  readonly #server: net.Server;
  readonly #sockets: Set<Socket>;
  readonly #stops: Stops<Command>;

  private constructor(server: net.Server, sockets: Set<Socket>, stops: Stops<Command>) {
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
    this.#sockets = sockets;
    this.#stops = stops;
  }

  static async start(targetPort: number): Promise<RedisProxy> {
    const sockets = new Set<Socket>();
    const stops = new Stops<Command>();
    const server = net.createServer((client) => {
      const target = net.connect(targetPort, '127.0.0.1');
      for (const socket of [client, target]) {
        sockets.add(socket);
        socket.setNoDelay(true);
        // Both go together; each hears of the other's end by its own.
        socket.on('error', () => socket.destroy());
        socket.on('close', () => {
          sockets.delete(socket);
          client.destroy();
          target.destroy();
        });
      }
      new Link(client, target, stops).run();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new RedisProxy(server, sockets, stops);
  }

  /** Stops the connection of the next such command there. Other connections go on. */
  stopAt(kind: Kind, place: Exclude<Place, 'sent'>): Stop {
    const { what, fits, answerFits = ANY_ANSWER } = kind;
    return this.#stops.add({ stop: new Stop(what, place), fits, answerFits });
  }

  async close(): Promise<void> {
    this.#stops.clear();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** One connection: commands up, answers down, in the same order. */
class Link {
  readonly #client: Socket;
  readonly #target: Socket;
  readonly #stops: Stops<Command>;
  /** Of the commands without an answer so far, the stops that are down the road. */
  readonly #unanswered: (Asked<Command> | undefined)[] = [];

  constructor(client: Socket, target: Socket, stops: Stops<Command>) {
    this.#client = client;
    this.#target = target;
    this.#stops = stops;
  }

  run(): void {
    for (const way of [this.#up(), this.#down()]) {
      // A connection that breaks ends both ways.
      way.catch(() => this.#client.destroy());
    }
  }

  async #up(): Promise<void> {
    for await (const bytes of frames(this.#client)) {
      const asked = this.#stops.take(wordsOf(bytes));
      const here = asked?.stop.place === 'before' || asked?.stop.place === 'half sent';
      this.#unanswered.push(here ? undefined : asked);
      if (asked !== undefined && here) await pass(this.#target, bytes, asked.stop);
      else this.#target.write(bytes);
    }
  }

  async #down(): Promise<void> {
    for await (const bytes of frames(this.#target)) {
      const asked = this.#unanswered.shift();
      if (asked?.answerFits(bytes)) {
        await pass(this.#client, bytes, asked.stop);
      } else {
        if (asked !== undefined) this.#stops.add(asked);
        this.#client.write(bytes);
      }
    }
  }
}

/** Passes on what may pass, waits, and passes on the rest. */
async function pass(to: Socket, bytes: Buffer, stop: Stop): Promise<void> {
  const half = stop.place.startsWith('half') ? Math.ceil(bytes.length / 2) : 0;
  if (half > 0) to.write(bytes.subarray(0, half));
  if ((await stop.arrive()) === 'cut') to.destroy();
  else to.write(bytes.subarray(half));
}

/** Whole commands or answers, as they come. */
async function* frames(socket: Socket): AsyncGenerator<Buffer, void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of socket) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    for (let end = endOf(rest, at); end !== undefined; end = endOf(rest, at)) {
      yield rest.subarray(at, end);
      at = end;
    }
    rest = rest.subarray(at);
  }
}

/** Where the value ends that begins there; undefined while it isn't whole. */
function endOf(bytes: Buffer, at: number): number | undefined {
  const lineEnd = bytes.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const type = String.fromCharCode(bytes.readUInt8(at));
  const count = Number(bytes.toString('latin1', at + 1, lineEnd));
  let end: number | undefined = lineEnd + 2;
  if ('$=!'.includes(type)) {
    if (count >= 0) end += count + 2;
    return end <= bytes.length ? end : undefined;
  }
  const values = { '*': count, '~': count, '%': 2 * count }[type] ?? 0;
  for (let i = 0; i < values && end !== undefined; i++) end = endOf(bytes, end);
  return end;
}

function wordsOf(bytes: Buffer): string[] {
  const words: string[] = [];
  let at = bytes.indexOf('\r\n') + 2;
  while (at < bytes.length) {
    const lineEnd = bytes.indexOf('\r\n', at);
    const length = Number(bytes.toString('latin1', at + 1, lineEnd));
    words.push(bytes.toString('latin1', lineEnd + 2, lineEnd + 2 + length));
    at = lineEnd + 2 + length + 2;
  }
  return words;
}

/** A plain command. */
export function isCommand(name: string): Kind {
  return { what: name, fits: ([word]) => word?.toUpperCase() === name };
}

/** A script of src/queue/lua. */
export async function runs(name: keyof typeof SCRIPTS): Promise<Kind> {
  return { what: `the script ${name}`, fits: runOf(await textOf(name)) };
}

/** The n-th from now on, from 1. For one stop. */
export function nth(number: number, kind: Kind): Kind {
  let seen = 0;
  return {
    ...kind,
    what: `${kind.what}, number ${number}`,
    fits: (command) => kind.fits(command) && ++seen === number,
  };
}

/** The same for one shard. */
export function ofShard(shard: number, kind: Kind): Kind {
  const ofIt = (command: Command) => command.some((word) => word.startsWith(`{s${shard}}:`));
  return { ...kind, what: `${kind.what} of shard ${shard}`, fits: (command) => kind.fits(command) && ofIt(command) };
}

/** A script of BullMQ, by its name there. */
export function bullmq(name: string): Kind {
  const text = BULLMQ_TEXTS.get(name);
  if (text === undefined) throw new Error(`this BullMQ has no script ${name}`);
  return { what: `BullMQ's ${name}`, fits: runOf(text) };
}

/** A writer is given a job, and not the nothing that an idle one is given. */
export const TAKES_JOB: Kind = {
  ...bullmq('moveToActive'),
  answerFits: (answer) => answer.includes('"sealedAtMs"'),
};

/** A writer that waits is told that there is a job. */
export const HEARS_OF_JOB: Kind = {
  ...isCommand('BZPOPMIN'),
  answerFits: (answer) => answer.includes('marker'),
};

/** By the script's digest or with its text. */
function runOf(text: string): (command: Command) => boolean {
  const digest = createHash('sha1').update(text).digest('hex');
  return ([word = '', script]) => {
    const name = word.toUpperCase();
    return (name === 'EVALSHA' && script === digest) || (name === 'EVAL' && script === text);
  };
}

/** All scripts of the queue and of BullMQ: a stop is at a run that counts only where Redis knows them. */
export async function allTexts(): Promise<string[]> {
  const names = Object.keys(SCRIPTS) as (keyof typeof SCRIPTS)[];
  return [...(await Promise.all(names.map(textOf))), ...BULLMQ_TEXTS.values()];
}

/** As the script sends it to a Redis that doesn't know it. */
async function textOf(name: keyof typeof SCRIPTS): Promise<string> {
  let text = '';
  const command = async ([word, script]: readonly CommandPart[]): Promise<Reply> => {
    if (word === 'EVALSHA') throw new Fault('redis_noscript', 'here', 'never heard of it');
    text = String(script);
    return null;
  };
  await SCRIPTS[name].run({ command }, [], []);
  return text;
}
