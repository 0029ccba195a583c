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
import { type RedisEndpoint, tlsOptions } from './access.ts';
import { reconnectDelayMs } from './backoff.ts';
import { Moved, faultOfReply, meansDemoted, unavailable } from './faults.ts';
import { BulkStream, type Reply, type ReplyReader, ValueReader } from './replies.ts';
import { type CommandPart, encodeCommand, MINUS, RespParser, type RespSink } from './resp.ts';
import { showAddress } from './url.ts';

export interface LeanOptions {
  /** The server, or how it is found anew before each attempt (rejects with a Fault). */
  readonly endpoint: RedisEndpoint | (() => Promise<RedisEndpoint>);
  /** Of each answer, and of a connection attempt as far as `ATTEMPT_MS_MAX`. */
  readonly timeoutMs: number;
  readonly logger: Logger;
  /** False: one that breaks stays broken, which is the owner's business and no news. Default true. */
  readonly renewed?: boolean;
  /**
   * A server that says READONLY is given up and counts as away until it is a master; one that was found by
   * asking has to be one from the beginning. Default false.
   */
  readonly masterOnly?: boolean;
  /** Called after it became ready, and after it broke. */
  readonly onChange?: () => void;
  /** Called when the server has said READONLY, where it had to be a master. */
  readonly onDemoted?: () => void;
  /** Called when the server says that another node of the cluster has the slot. */
  readonly onMoved?: (moved: Moved) => void;
}

const KEEP_ALIVE_MS = 10_000;
/**
 * An attempt at a machine that has vanished must not hold up the next one: meanwhile the sentinels may have
 * named another master.
 */
const ATTEMPT_MS_MAX = 2_000;
/** Commands that wait for their answers on one connection. The callers' own bounds are far below. */
const PENDING_MAX = 10_000;

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'locating' }
  | { readonly kind: 'connecting'; readonly socket: net.Socket }
  | { readonly kind: 'ready'; readonly socket: net.Socket; readonly endpoint: RedisEndpoint }
  | { readonly kind: 'waiting'; readonly timer: NodeJS.Timeout }
  | { readonly kind: 'closed' };

export class LeanConnection {
  readonly #options: LeanOptions;
  #state: State = { kind: 'idle' };
  /** Readers of the answers to come, in the order of the commands. */
  #pending: ReplyReader[] = [];
  #deadlineTimer: NodeJS.Timeout | undefined;
  #attempts = 0;
  /** It has said that it is a replica. */
  #demoted = false;
  #lastFault: Fault = unavailable('not connected to Redis yet');

  constructor(options: LeanOptions) {
    this.#options = options;
  }

  get ready(): boolean {
    return this.#state.kind === 'ready';
  }

  /** The server that it is connected to now. */
  get endpoint(): RedisEndpoint | undefined {
    return this.#state.kind === 'ready' ? this.#state.endpoint : undefined;
  }

  /** Whether nothing waits for an answer. */
  get idle(): boolean {
    return this.#pending.length === 0;
  }

  /**
   * Resolves when the first attempt succeeded, rejects with its Fault (`redis_unavailable`, or `redis_auth`
   * for wrong credentials) when it did not. Either way the connection is renewed from then on until `close`,
   * unless it is not to be renewed.
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
   * @param blockMs how long the command itself may wait (WAIT), in addition to the timeout
   */
  command(parts: readonly CommandPart[], _key?: string, blockMs = 0): Promise<Reply> {
    const refusal = this.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return this.#ask(parts, this.#options.timeoutMs + blockMs);
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
    const refusal = this.refusal();
    if (refusal === undefined) this.#send(parts, stream);
    else stream.fail(refusal);
    return stream;
  }

  /** Breaks the connection since its server is no master any more; it is looked for again. */
  giveUp(): void {
    this.#demoted = true;
    this.#break(unavailable('the server is no master any more'));
  }

  /** Ends the connection for good; what still waits for an answer is rejected. */
  close(): void {
    const state = this.#state;
    this.#state = { kind: 'closed' };
    this.#lastFault = unavailable('the connection to Redis was closed');
    if (state.kind === 'waiting') clearTimeout(state.timer);
    if (state.kind === 'connecting' || state.kind === 'ready') state.socket.destroy();
    this.#rejectAll(this.#lastFault);
  }

  #socket(): net.Socket | undefined {
    return this.#state.kind === 'ready' ? this.#state.socket : undefined;
  }

  /** Why a command would be refused now. */
  refusal(): Fault | undefined {
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

  #ask(parts: readonly CommandPart[], timeoutMs: number): Promise<Reply> {
    const reader = new ValueReader(tickMs() + timeoutMs);
    this.#send(parts, reader);
    return reader.promise;
  }

  async #attempt(): Promise<void> {
    const { endpoint, logger, onChange } = this.#options;
    const locating: State = { kind: 'locating' };
    this.#state = locating;
    try {
      const found = typeof endpoint === 'function' ? await endpoint() : endpoint;
      if (this.#state !== locating) throw unavailable('closed while connecting');
      this.#state = { kind: 'ready', socket: await this.#open(found), endpoint: found };
      if (this.#attempts > 0) {
        logger.info({ attempts: this.#attempts, at: showAddress(found) }, 'connected to Redis again');
      }
      this.#attempts = 0;
      onChange?.();
    } catch (error) {
      const fault =
        error instanceof Fault ? error : unavailable(`no connection to Redis: ${messageOf(error)}`, error);
      this.#break(fault);
      throw fault;
    }
  }

  /** Resolves with a socket to a server that takes commands. */
  async #open(endpoint: RedisEndpoint): Promise<net.Socket> {
    const { host, port } = endpoint;
    const secured = tlsOptions(endpoint);
    const socket = secured
      ? tls.connect({ ...secured, host, port, servername: serverName(host) })
      : net.connect({ host, port });
    this.#state = { kind: 'connecting', socket };
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const msMax = Math.min(this.#options.timeoutMs, ATTEMPT_MS_MAX);
    await this.#opened(socket, secured ? 'secureConnect' : 'connect', msMax);
    this.#listen(socket);
    await this.#introduce(endpoint, msMax);
    if (this.#state.kind !== 'connecting') throw unavailable('closed while connecting');
    return socket;
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
      line: (type, text) => {
        then((reader) => reader.line(type, text));
        if (type === MINUS) this.#refused(text);
      },
      nil: () => then((reader) => reader.nil()),
      array: (length) => then((reader) => reader.array(length)),
      bulkStart: (bytes) => head().bulkStart(bytes),
      bulkBytes: (view) => head().bulkBytes(view),
      bulkEnd: () => then((reader) => reader.bulkEnd()),
    };
  }

  /** What a refusal says about the server, beside what it means to whoever asked. */
  #refused(text: string): void {
    const { masterOnly, onDemoted, onMoved } = this.#options;
    if (masterOnly && meansDemoted(text)) {
      this.giveUp();
      onDemoted?.();
    }
    const fault = onMoved && faultOfReply(text);
    if (fault instanceof Moved) onMoved?.(fault);
  }

  /** PING last: it is refused without credentials and while Redis loads, which a mere connection is not. */
  async #introduce(endpoint: RedisEndpoint, msMax: number): Promise<void> {
    const commands: CommandPart[][] = [];
    if (endpoint.password !== undefined) {
      const user = endpoint.username === undefined ? [] : [endpoint.username];
      commands.push(['AUTH', ...user, endpoint.password]);
    }
    if (endpoint.db > 0) commands.push(['SELECT', endpoint.db]);
    const answers = commands.map((command) => this.#ask(command, msMax));
    const { masterOnly } = this.#options;
    const doubtful = masterOnly && (this.#demoted || typeof this.#options.endpoint === 'function');
    // Some services forbid ROLE: then READONLY tells, when something is written.
    const role = doubtful ? this.#ask(['ROLE'], msMax).catch(() => undefined) : undefined;
    await Promise.all([...answers, this.#ask(['PING'], msMax)]);
    const answer = await role;
    if (Array.isArray(answer) && answer[0] !== 'master') {
      throw unavailable(`${showAddress(endpoint)} is a replica, not a master`);
    }
    this.#demoted = false;
  }

  /** News about a socket, which may be one that was given up already. */
  #lost(socket: net.Socket, fault: Fault): void {
    const state = this.#state;
    const current = (state.kind === 'ready' || state.kind === 'connecting') && state.socket === socket;
    if (current) this.#break(fault);
  }

  #break(fault: Fault, level: 'warn' | 'debug' = 'warn'): void {
    const state = this.#state;
    if (state.kind !== 'ready' && state.kind !== 'connecting' && state.kind !== 'locating') return;
    this.#lastFault = fault;
    const { logger, renewed = true, onChange } = this.#options;
    if (renewed) {
      // Of a Redis that stays away the first failure says enough.
      const reason = fault.message;
      if (this.#attempts === 0) logger[level]({ reason, ...this.#where }, 'no connection to Redis');
      const timer = setTimeout(() => this.#attemptAgain(), reconnectDelayMs(this.#attempts));
      this.#attempts += 1;
      this.#state = { kind: 'waiting', timer };
    } else {
      this.#state = { kind: 'closed' };
    }
    if (state.kind !== 'locating') state.socket.destroy();
    this.#rejectAll(fault);
    if (state.kind === 'ready') onChange?.();
  }

  #attemptAgain(): void {
    const { logger } = this.#options;
    this.#attempt().catch((error) => {
      logger.debug({ reason: messageOf(error), ...this.#where }, 'still no Redis');
    });
  }

  /** For log lines; of an address that is asked for anew each time, nothing. */
  get #where(): { readonly at?: string } {
    const { endpoint } = this.#options;
    return typeof endpoint === 'function' ? {} : { at: showAddress(endpoint) };
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
      const { timeoutMs } = this.#options;
      this.#break(unavailable(`Redis has not answered in time (SLUICE_REDIS_TIMEOUT_MS is ${timeoutMs})`));
    } else if (this.#state.kind !== 'closed') {
      this.#watchDeadline();
    }
  }
}

/** SNI knows names only. */
function serverName(host: string): string {
  return net.isIP(host) === 0 ? host : '';
}
