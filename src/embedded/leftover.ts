/**
 * Processes that an earlier run left behind. Embedded services die with their parent, but where the system
 * can't promise that (no setpriv, no /proc) one may survive a kill -9 of it: the next start ends it before
 * it starts its own. A process is recognised by pid and start time, so a pid that was given to somebody
 * else is never touched.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { sleep, tickMs } from '../base/clock.ts';
import { ConfigurationError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

const POLL_MS = 20;

/**
 * What tells a process from every other one, also across reboots; undefined when it is gone or /proc isn't
 * there.
 */
function identityOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // proc(5): the second field is the name in parentheses and may hold blanks; the state follows, field 20
    // is the number of threads, 22 the start.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const state = fields[0];
    // The first thread may be dead while others still are dying, and hold ports and files until they have.
    if (state === 'X' || (state === 'Z' && Number(fields[17]) <= 1)) return undefined;
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return `${pid} ${fields[19]} ${boot}`;
  } catch {
    return undefined; // no such process, or a system without /proc: nothing that could be recognised
  }
}

const fileIn = (dir: string) => `${dir}/process`;

export function rememberProcess(dir: string, pid: number): void {
  const identity = identityOf(pid);
  if (identity !== undefined) writeFileSync(fileIn(dir), `${identity}\n`);
}

export function forgetProcess(dir: string): void {
  rmSync(fileIn(dir), { force: true });
}

/** It may have ended just now, which is all that is wanted. */
function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/**
 * Ends the process remembered in `dir` if it still runs: SIGTERM, after `msMax` SIGKILL.
 * @throws ConfigurationError when it survives even that for `msMax`.
 */
export async function endLeftover(dir: string, name: string, msMax: number, logger: Logger): Promise<void> {
  if (!existsSync(fileIn(dir))) return;
  const identity = readFileSync(fileIn(dir), 'utf8').trim();
  const pid = Number(identity.split(' ')[0]);
  const runs = () => identityOf(pid) === identity;
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!runs()) break;
    logger.warn({ servicePid: pid, signal }, `an earlier run left its ${name} behind, it is ended`);
    send(pid, signal);
    const startMs = tickMs();
    while (runs() && tickMs() - startMs < msMax) await sleep(POLL_MS);
  }
  if (runs())
    throw new ConfigurationError(`an earlier run's ${name} (pid ${pid}) doesn't end: end it by hand`);
  forgetProcess(dir);
}
