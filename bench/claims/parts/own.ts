/**
 * Installations that a claim starts for itself, and the ends of its waits. Whatever comes, they are stopped:
 * the claim is done, fails, or is ended by Ctrl-C or SIGTERM. Every wait has a bound and says what it is for.
 */
import { sleep, tickMs } from '../../../src/base/clock.ts';
import { Installation, type InstallationOptions, type Member, type Server } from '../../installation.ts';

/** A writer ends once its inserts have, within SLUICE_DRAIN_MS_MAX. */
const STOP_MS_MAX = 60_000;
const EXIT_INTERRUPTED = 130;
const POLL_MS = 100;

/** One of each, and the installation for what else it has. */
export interface Own {
  readonly installation: Installation;
  readonly gateway: Member;
  readonly writer: Member;
  readonly server: Server;
}

/** Those that run, or are about to; and their ends, once those have begun. */
const started = new Set<Promise<Installation>>();
const ends = new WeakMap<Promise<Installation>, Promise<void>>();
let isInterrupted = false;

/**
 * Starts one, runs `body` with it and stops it. On a signal everything that runs here is stopped, and then
 * the process ends, whatever `body` waits for.
 */
export async function owning<Result>(
  options: Omit<InstallationOptions, 'clickhouses' | 'gateways' | 'writers'>,
  body: (own: Own) => Promise<Result>,
): Promise<Result> {
  if (started.size === 0 && !isInterrupted) for (const name of SIGNALS) process.on(name, interrupted);
  const starting = Installation.start({ ...options, clickhouses: 1, gateways: 1, writers: 1 });
  started.add(starting);
  try {
    const installation = await starting;
    const [[gateway], [writer], [server]] = [installation.gateways, installation.writers, installation.clickhouses];
    if (gateway === undefined || writer === undefined || server === undefined) throw new Error('one of each was started');
    return await body({ installation, gateway, writer, server });
  } finally {
    await stopped(starting);
    started.delete(starting);
    // While it ends by a signal a second one must not cut that short.
    if (started.size === 0 && !isInterrupted) for (const name of SIGNALS) process.off(name, interrupted);
  }
}

/** Resolves when it is so. @throws Error when it isn't within `msMax` */
export async function until(what: string, msMax: number, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const fromMs = tickMs();
  while (!(await within(what, msMax, Promise.resolve(isSo())))) {
    if (tickMs() - fromMs > msMax) throw late(what, msMax);
    await sleep(POLL_MS);
  }
}

/** The promise's own outcome. @throws Error when it has none within `msMax` */
export async function within<Value>(what: string, msMax: number, promise: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late(what, msMax)), msMax);
  });
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}

function late(what: string, msMax: number): Error {
  return new Error(`${what}: not within ${msMax / 1000} s`);
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

function interrupted(signal: NodeJS.Signals): void {
  if (isInterrupted) return;
  isInterrupted = true;
  process.stderr.write(`${signal}: everything that was started is stopped\n`);
  void Promise.all([...started].map(stopped)).finally(() => process.exit(EXIT_INTERRUPTED));
}

/** Once, whoever asks. Never rejects. */
function stopped(starting: Promise<Installation>): Promise<void> {
  const end = ends.get(starting) ?? stop(starting);
  ends.set(starting, end);
  return end;
}

/** One that didn't start has stopped itself. What doesn't end in time is killed. */
async function stop(starting: Promise<Installation>): Promise<void> {
  const installation = await starting.catch(() => undefined);
  if (installation === undefined) return;
  try {
    await within('the end of an installation', STOP_MS_MAX, installation.stop());
  } catch (error) {
    process.stderr.write(`${String(error)}: its programs are killed\n`);
    for (const member of [...installation.gateways, ...installation.writers]) member.process.kill('SIGKILL');
    await within('the end of what was killed', STOP_MS_MAX, installation.stop()).catch(() => undefined);
  }
}
