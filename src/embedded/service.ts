/**
 * A service that runs as a child process beside us: started, waited for until it answers, ended within a
 * bound. What can fail: the child ends before it answers, or never answers; both end in a
 * ConfigurationError with the tail of its own log, since only the operator can mend the cause.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { sleep, tickMs } from '../base/clock.ts';
import { ConfigurationError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { endLeftover, forgetProcess, rememberProcess } from './leftover.ts';
import { type PortWish, assertPortFree } from './ports.ts';

const LOG_TAIL_CHARACTERS = 1_500;
const READY_POLL_MS = 25;
/** After SIGKILL the kernel still has to free the memory and the ports of the process. */
const KILL_MS_MAX = 10_000;

/** A running service of ours. */
export interface EmbeddedService {
  readonly url: string;
  readonly pid: number;
  /**
   * Resolves when the process has ended, for whatever reason, with how it ended ("exit code 1", "signal
   * SIGKILL").
   */
  readonly ended: Promise<string>;
  /**
   * Asks it to end, waits, kills it if it doesn't; resolves when the process is gone. May be called again.
   */
  stop(): Promise<void>;
}

export interface ServiceOptions {
  /** In messages: "ClickHouse", "Redis". */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Working folder; the child's standard output and error go to `<dir>/output.log`. */
  readonly dir: string;
  /** Beside those of this process. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly url: string;
  /** All that it listens on. */
  readonly ports: readonly PortWish[];
  /** The service's own log, when it writes one: its tail explains a failed start. */
  readonly logFile: string;
  /** Whether it answers, and is done with loading; never rejects. */
  readonly probe: () => Promise<boolean>;
  readonly startMsMax: number;
  readonly stopMsMax: number;
  readonly logger: Logger;
}

/**
 * Starts the child in a process group of its own (Ctrl-C in a terminal must not end it before we have
 * drained into it) and resolves when `probe` says ready.
 * @throws ConfigurationError when a port is taken, the child ends before, or isn't ready within `startMsMax`
 *   (it is killed then).
 */
export async function startService(options: ServiceOptions): Promise<EmbeddedService> {
  const { name, dir, logger } = options;
  await endLeftover(dir, name, options.stopMsMax, logger);
  for (const port of options.ports) await assertPortFree(port);
  const startedMs = tickMs();
  const { child, ended } = spawnInto(options, `${dir}/output.log`);
  if (child.pid !== undefined) rememberProcess(dir, child.pid);
  let how: string | undefined;
  void ended.then((reason) => {
    how = reason;
  });
  const failed = (what: string) => new ConfigurationError(`the embedded ${name} ${what}${logTail(options)}`);
  for (;;) {
    const ready = await options.probe();
    // Asked after the answer: if our child has ended, somebody else answers on its port.
    if (how !== undefined || child.pid === undefined) throw failed(`ended while it started (${how})`);
    if (ready) break;
    if (tickMs() - startedMs > options.startMsMax) {
      child.kill('SIGKILL');
      throw failed(`didn't answer within ${options.startMsMax} ms`);
    }
    await sleep(READY_POLL_MS);
  }
  logger.debug({ servicePid: child.pid, ms: Math.round(tickMs() - startedMs) }, `embedded ${name} is up`);
  const stop = async () => {
    await endChild(child, ended, options.stopMsMax, name, logger);
    forgetProcess(dir);
  };
  return { url: options.url, pid: child.pid, ended, stop };
}

function spawnInto(
  options: ServiceOptions,
  outputFile: string,
): { child: ChildProcess; ended: Promise<string> } {
  const output = openSync(outputFile, 'w');
  try {
    const child = spawn(options.command, options.args, {
      cwd: options.dir,
      env: { ...process.env, ...options.environment },
      detached: true,
      stdio: ['ignore', output, output],
    });
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) =>
        resolve(signal === null ? `exit code ${code}` : `signal ${signal}`),
      );
    });
    return { child, ended };
  } finally {
    closeSync(output);
  }
}

async function endChild(
  child: ChildProcess,
  ended: Promise<string>,
  stopMsMax: number,
  name: string,
  logger: Logger,
): Promise<void> {
  child.kill('SIGTERM');
  if (await endsWithin(ended, stopMsMax)) return;
  logger.warn({ servicePid: child.pid, stopMsMax }, `embedded ${name} didn't end in time and is killed`);
  child.kill('SIGKILL');
  await endsWithin(ended, KILL_MS_MAX);
}

async function endsWithin(ended: Promise<string>, ms: number): Promise<boolean> {
  const abort = new AbortController();
  const inTime = await Promise.race([ended.then(() => true), sleep(ms, abort.signal).then(() => false)]);
  abort.abort();
  return inTime;
}

function logTail(options: ServiceOptions): string {
  const files = [`${options.dir}/output.log`, options.logFile].filter((file) => existsSync(file));
  const text = files.map((file) => readFileSync(file, 'utf8').replaceAll('\0', '').trimEnd()).join('\n');
  return text === '' ? '' : `; its log ends with:\n${text.slice(-LOG_TAIL_CHARACTERS)}`;
}
