/**
 * The hot path's own connection to Redis. What ioredis costs there (copies of payloads, an object per
 * command, bulks decoded into new buffers) was a third of the gateway's time; this one hands payloads to the
 * kernel from where they lie and bulks on as views. Everything else (BullMQ) stays with ioredis.
 *
 * Enters: commands. Leaves: replies in order, or a Fault each. A connection that breaks rejects everything
 * that waits for an answer (whether Redis carried it out is unknown) and connects again by itself; meanwhile
 * commands are refused at once, so nothing piles up here.
 */
import net from 'node:net';
import tls from 'node:tls';
import { tickMs } from '../base/clock.ts';
import { assert, Fault, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type RedisEndpoint, reconnectDelayMs } from './connection.ts';
import { unavailable } from './faults.ts';
import { BulkStream, type Reply, type ReplyReader, ValueReader } from './replies.ts';
import { type CommandPart, encodeCommand, RespParser, type RespSink } from './resp.ts';

export interface LeanOptions {
  readonly endpoint: RedisEndpoint;
  /** Of a connection attempt, and of each answer. */
  readonly timeoutMs: number;
  readonly logger: Logger;
}

const KEEP_ALIVE_MS = 10_000;
/** Commands that wait for their answers on one connection. The callers' own bounds are far below. */
const PENDING_MAX = 10_000;

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'connecting'; readonly socket: net.Socket }
  | { readonly kind: 'ready'; readonly socket: net.Socket }
  | { readonly kind: 'waiting'; readonly timer: NodeJS.Timeout }
  | { readonly kind: 'closed' };

export class LeanConnection {
  readonly #options: LeanOptions;
  #state: State = { kind: 'idle' };
  /** Readers of the answers to come, in the order of the commands. */
  #pending: ReplyReader[] = [];
  #deadlineTimer: NodeJS.Timeout | undefined;
  #attempts = 0;
  #lastFault: Fault = unavailable('not connected to Redis yet');

  constructor(options: LeanOptions) {
    this.#options = options;
  }

  get ready(): boolean {
    return this.#state.kind === 'ready';
  }

  /**
   * Resolves when the first attempt succeeded, rejects with its Fault (`redis_unavailable`, or `redis_auth`
   * for wrong credentials) when it did not. Either way the connection is renewed from then on until `close`.
   */
  connect(): Promise<void> {
    assert(this.#state.kind === 'idle', 'a lean connection is connected once');
    return this.#attempt();
  }

  /**
   * Sends one command. Payloads (Uint8Array parts) are not copied: they must stay as they are until the
   * promise settles. Rejects with the Fault of an error reply, or with `redis_unavailable` when there is no
   * connection, when it broke or when the answer took longer than the timeout; in the last two cases the
   * command may have been carried out.
   */
  command(parts: readonly CommandPart[]): Promise<Reply> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const reader = new ValueReader(tickMs() + this.#options.timeoutMs);
    this.#send(parts, reader);
    return reader.promise;
  }

  /**
   * Sends a command that answers with an array of bulks (LRANGE) and gives their bytes one after the other.
   * Whoever reads slowly slows down everything on this connection: use one of its own. Leaving the loop early
   * breaks it.
   * @throws Fault as `command` rejects, while iterating.
   */
  stream(parts: readonly CommandPart[]): BulkStream {
    const stream: BulkStream = new BulkStream(tickMs(), this.#options.timeoutMs, {
      pause: () => this.#socket()?.pause(),
      resume: () => {
        stream.progress(tickMs());
        this.#socket()?.resume();
      },
      abandon: () => this.#break(unavailable('a reply was not read to its end'), 'debug'),
    });
    const refusal = this.#refusal();
    if (refusal === undefined) this.#send(parts, stream);
    else stream.fail(refusal);
    return stream;
  }

  /** Ends the connection for good; what still waits for an answer is rejected. */
  close(): void {
    const state = this.#state;
    this.#state = { kind: 'closed' };
    if (state.kind === 'waiting') clearTimeout(state.timer);
    if (state.kind === 'connecting' || state.kind === 'ready') state.socket.destroy();
    this.#rejectAll(unavailable('the connection to Redis was closed'));
  }

  #socket(): net.Socket | undefined {
    return this.#state.kind === 'ready' ? this.#state.socket : undefined;
  }

  #refusal(): Fault | undefined {
    if (this.#state.kind !== 'ready') return this.#lastFault;
    if (this.#pending.length >= PENDING_MAX) {
      return unavailable(`${PENDING_MAX} commands wait for an answer of Redis already`);
    }
    return undefined;
  }

  #send(parts: readonly CommandPart[], reader: ReplyReader): void {
    assert(this.#state.kind === 'ready' || this.#state.kind === 'connecting', 'commands need a socket');
    const { socket } = this.#state;
    this.#pending.push(reader);
    if (this.#deadlineTimer === undefined) this.#watchDeadline();
    // One writev for the whole command: Node neither joins nor copies the payloads.
    socket.cork();
    for (const piece of encodeCommand(parts)) socket.write(piece);
    socket.uncork();
  }

  async #attempt(): Promise<void> {
    const { endpoint, timeoutMs, logger } = this.#options;
    const socket = endpoint.tls
      ? tls.connect({ host: endpoint.host, port: endpoint.port, servername: serverName(endpoint.host) })
      : net.connect({ host: endpoint.host, port: endpoint.port });
    this.#state = { kind: 'connecting', socket };
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    try {
      await this.#opened(socket, endpoint.tls ? 'secureConnect' : 'connect', timeoutMs);
      this.#listen(socket);
      await this.#introduce(endpoint);
      if (this.#state.kind !== 'connecting') throw unavailable('closed while connecting');
      this.#state = { kind: 'ready', socket };
      if (this.#attempts > 0) logger.info({ attempts: this.#attempts }, 'connected to Redis again');
      this.#attempts = 0;
    } catch (error) {
      const fault =
        error instanceof Fault ? error : unavailable(`no connection to Redis: ${messageOf(error)}`, error);
      this.#break(fault);
      throw fault;
    }
  }

  #opened(socket: net.Socket, event: string, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => socket.destroy(new Error(`not connected after ${timeoutMs} ms`)),
        timeoutMs,
      );
      const settle = (action: () => void) => {
        clearTimeout(timer);
        action();
      };
      socket.once(event, () => settle(resolve));
      // Stays for the socket's whole life: an error without a listener would end the process.
      socket.on('error', (error) => {
        settle(() => reject(error));
        this.#lost(socket, unavailable(`the connection to Redis broke: ${error.message}`, error));
      });
      socket.once('close', () => {
        settle(() => reject(new Error('closed while connecting')));
        this.#lost(socket, unavailable('Redis closed the connection'));
      });
    });
  }

  #listen(socket: net.Socket): void {
    const parser = new RespParser(this.#sink());
    socket.on('data', (chunk: Buffer) => {
      try {
        parser.feed(chunk);
        this.#pending[0]?.progress(tickMs());
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#lost(socket, error);
      }
    });
  }

  /** Forwards what is parsed to the reader whose turn it is. */
  #sink(): RespSink {
    const head = (): ReplyReader => {
      const reader = this.#pending[0];
      if (reader === undefined) throw unavailable('Redis sent a reply that nobody asked for');
      return reader;
    };
    const then = (event: (reader: ReplyReader) => void): void => {
      const reader = head();
      event(reader);
      if (reader.complete) this.#pending.shift();
    };
    return {
      line: (type, text) => then((reader) => reader.line(type, text)),
      nil: () => then((reader) => reader.nil()),
      array: (length) => then((reader) => reader.array(length)),
      bulkStart: (bytes) => head().bulkStart(bytes),
      bulkBytes: (view) => head().bulkBytes(view),
      bulkEnd: () => then((reader) => reader.bulkEnd()),
    };
  }

  /** PING last: it is refused without credentials and while Redis loads, which a mere connection is not. */
  async #introduce(endpoint: RedisEndpoint): Promise<void> {
    const commands: CommandPart[][] = [];
    if (endpoint.password !== undefined) {
      const user = endpoint.username === undefined ? [] : [endpoint.username];
      commands.push(['AUTH', ...user, endpoint.password]);
    }
    if (endpoint.db > 0) commands.push(['SELECT', endpoint.db]);
    commands.push(['PING']);
    await Promise.all(
      commands.map((command) => {
        const reader = new ValueReader(tickMs() + this.#options.timeoutMs);
        this.#send(command, reader);
        return reader.promise;
      }),
    );
  }

  /** News about a socket, which may be one that was given up already. */
  #lost(socket: net.Socket, fault: Fault): void {
    const state = this.#state;
    const current = (state.kind === 'ready' || state.kind === 'connecting') && state.socket === socket;
    if (current) this.#break(fault);
  }

  #break(fault: Fault, level: 'warn' | 'debug' = 'warn'): void {
    const state = this.#state;
    if (state.kind !== 'ready' && state.kind !== 'connecting') return;
    this.#lastFault = fault;
    const delayMs = reconnectDelayMs(this.#attempts);
    // Of a Redis that stays away the first failure says enough.
    if (this.#attempts === 0)
      this.#options.logger[level]({ reason: fault.message }, 'no connection to Redis');
    this.#attempts += 1;
    const timer = setTimeout(() => {
      this.#attempt().catch((error) =>
        this.#options.logger.debug({ reason: messageOf(error) }, 'still no Redis'),
      );
    }, delayMs);
    this.#state = { kind: 'waiting', timer };
    state.socket.destroy();
    this.#rejectAll(fault);
  }

  #rejectAll(fault: Fault): void {
    clearTimeout(this.#deadlineTimer);
    this.#deadlineTimer = undefined;
    const readers = this.#pending;
    this.#pending = [];
    for (const reader of readers) reader.fail(fault);
  }

  /**
   * One timer for all: answers come in order, so the first one is the one that is waited for longest. When it
   * rings the event loop may simply have been busy with the answer in the socket: it gets a turn to be read
   * before the judgement.
   */
  #watchDeadline(): void {
    const first = this.#pending[0];
    this.#deadlineTimer = undefined;
    if (first === undefined) return;
    const leftMs = Math.min(first.deadlineMs - tickMs(), this.#options.timeoutMs);
    this.#deadlineTimer = setTimeout(() => setImmediate(() => this.#judgeDeadline()), Math.max(leftMs, 1));
  }

  #judgeDeadline(): void {
    const first = this.#pending[0];
    if (first !== undefined && first.deadlineMs <= tickMs()) {
      this.#break(unavailable(`Redis has not answered for ${this.#options.timeoutMs} ms`));
    } else if (this.#state.kind !== 'closed') {
      this.#watchDeadline();
    }
  }
}

/** SNI knows names only. */
function serverName(host: string): string {
  return net.isIP(host) === 0 ? host : '';
}
