/** A real redis-server for a test: free port, temporary folder, append-only file, gone with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { RedisSettings } from '../../src/redis/access.ts';
import { LeanConnection } from '../../src/redis/lean.ts';
import { freePort } from '../support/services.ts';
import { redisSettings } from '../support/settings.ts';

export { freePort };
export const silent = pino({ level: 'silent' });

/** Of an answer where no test is about that: a machine that stands still for seconds is no fault of Redis. */
const TIMEOUT_MS = 20_000;

/** Polls until the condition holds; its errors count as "not yet". */
export async function eventually<T>(
  condition: () => T | Promise<T>,
  what: string,
  msMax = 20_000,
): Promise<T> {
  const until = performance.now() + msMax;
  let last: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) throw new Error(`not within ${msMax} ms: ${what}`, { cause: last });
    await delay(10);
  }
}

/** Resolves when there is a connection: an attempt has two seconds, and the machine may stand still for longer. */
export async function connected(of: { connect(): Promise<void>; readonly ready: boolean }): Promise<void> {
  await of.connect().catch(() => eventually(() => of.ready, 'a connection'));
}

export class RedisServer {
  readonly port: number;
  readonly #dir: string;
  readonly #arguments: readonly string[];
  #process: ChildProcess | undefined;

  private constructor(port: number, args: readonly string[]) {
    this.port = port;
    this.#arguments = args;
    this.#dir = mkdtempSync(join(tmpdir(), 'sluice-redis-'));
  }

  static async start(...args: string[]): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), args);
    await server.up();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}/0`;
  }

  get settings(): RedisSettings {
    return redisSettings(this.url, { timeoutMs: TIMEOUT_MS });
  }

  /** Starts it (again, on the same data) and waits until it takes connections and has loaded its data. */
  async up(): Promise<void> {
    const fixed = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#dir, '--save', ''];
    const durable = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory-policy', 'noeviction'];
    this.#process = spawn('redis-server', [...fixed, ...durable, ...this.#arguments], { stdio: 'ignore' });
    await eventually(() => this.#pings(), `redis-server on port ${this.port}`);
  }

  /** Ends the process, by default without giving it a chance to save anything. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    // A stopped process has to be woken to die of anything but SIGKILL.
    child.kill('SIGCONT');
    await exited;
  }

  /** SIGSTOP and SIGCONT: the server is there, but answers nothing. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(signal);
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** A connection for the test's own questions. */
  async connect(): Promise<LeanConnection> {
    const endpoint = { host: '127.0.0.1', port: this.port, tls: false, db: 0 };
    const connection = new LeanConnection({ endpoint, timeoutMs: TIMEOUT_MS, logger: silent });
    await connected(connection);
    return connection;
  }

  #pings(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = net.connect(this.port, '127.0.0.1', () => socket.write('PING\r\n'));
      socket.once('data', (answer) => {
        socket.destroy();
        // -NOAUTH: up as well.
        resolve(/^(\+PONG|-NOAUTH)/.test(answer.toString('latin1')));
      });
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(false));
    });
  }
}
