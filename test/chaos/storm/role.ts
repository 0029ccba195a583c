/** A gateway or a writer as a process of bin/sluice that is killed, frozen, drained and started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { sleep } from '../../../src/base/clock.ts';
import { SLUICE, sample } from '../../support/program.ts';

const CLOCK = pathToFileURL(join(import.meta.dirname, 'clock-shift.ts')).href;
const METRICS_MS_MAX = 1_000;
/** A role that ended without being told to is started again after this. */
const RESTART_MS = 500;

export interface RoleOptions {
  readonly name: string;
  readonly role: 'gateway' | 'writer';
  /** Its own settings. */
  readonly environment: Readonly<Record<string, string>>;
  /** Its log and its clock are files in here. */
  readonly dir: string;
  /** What should not have happened. */
  readonly incident: (text: string) => void;
}

export class Role {
  readonly name: string;
  readonly #options: RoleOptions;
  readonly #clockFile: string;
  readonly #admin: string;
  #child: ChildProcess | undefined;
  #ended: Promise<string> = Promise.resolve('not started');
  /** Whether an end is our doing. */
  #wanted = false;
  starts = 0;
  /** The sum over all its lives; what a life counted after the last look is lost with it. */
  readonly #counted = new Map<string, { before: number; life: number }>();

  constructor(options: RoleOptions) {
    this.name = options.name;
    this.#options = options;
    this.#clockFile = join(options.dir, `${options.name}.clock`);
    this.#admin = `http://${options.environment.SLUICE_ADMIN_ADDR}`;
    writeFileSync(this.#clockFile, '0');
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts it and returns at once: what it needs may be away. */
  start(): void {
    const { name, role, environment, dir, incident } = this.#options;
    const log = openSync(join(dir, `${name}.log`), 'a');
    const inherited = Object.entries(process.env).filter(([key]) => !key.startsWith('SLUICE_'));
    const child = spawn(SLUICE, [role], {
      env: {
        ...Object.fromEntries(inherited),
        ...environment,
        NODE_OPTIONS: `--import=${CLOCK}`,
        CHAOS_CLOCK_FILE: this.#clockFile,
      },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#child = child;
    this.starts += 1;
    for (const count of this.#counted.values()) {
      count.before += count.life;
      count.life = 0;
    }
    this.#wanted = false;
    this.#ended = new Promise((resolve) =>
      child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`)),
    );
    void this.#ended.then(async (how) => {
      if (this.#wanted || this.#child !== child) return;
      incident(`${name} ended by itself: ${how}`);
      await sleep(RESTART_MS);
      if (this.#child === child && !this.#wanted) this.start();
    });
  }

  /** @returns how it ended. A frozen process is woken, to die of whatever signal it is. */
  end(signal: 'SIGKILL' | 'SIGTERM'): Promise<string> {
    this.#wanted = true;
    this.#child?.kill(signal);
    this.#child?.kill('SIGCONT');
    return this.#ended;
  }

  /**
   * As `end` with SIGTERM; what takes longer than `msMax` is killed.
   * @returns what was wrong with its end, if anything
   */
  async drain(msMax: number): Promise<string | undefined> {
    // One that has only just begun to start doesn't know yet what the signal means.
    const fine = (await this.isStarted()) ? ['exit code 0'] : ['exit code 0', 'SIGTERM'];
    const over = new AbortController();
    let isLate = false;
    const late = sleep(msMax, over.signal).then(() => {
      if (over.signal.aborted) return;
      isLate = true;
      this.#child?.kill('SIGKILL');
    });
    const how = await this.end('SIGTERM');
    over.abort();
    await late;
    if (isLate) return `${this.name} took more than ${msMax} ms for its end and was killed`;
    return fine.includes(how) ? undefined : `${this.name} ended with ${how} after SIGTERM`;
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Its wall clock is off by so much from now on, in later lives too. */
  async shiftClock(ms: number): Promise<void> {
    writeFileSync(this.#clockFile, String(ms));
    // Before it listens for the signal, that would kill it; and it will read the file by itself.
    if (await this.isStarted()) this.#child?.kill('SIGUSR2');
  }

  async isStarted(): Promise<boolean> {
    return (await this.#get('/startup'))?.ok === true;
  }

  /** Adds what this life has counted so far to what the lives before did. */
  async look(counters: readonly string[]): Promise<void> {
    const answer = await this.#get('/metrics');
    if (answer === undefined) return;
    for (const counter of counters) {
      const count = this.#counted.get(counter) ?? { before: 0, life: 0 };
      count.life = sample(answer.text, `sluice_${counter}`, {});
      this.#counted.set(counter, count);
    }
  }

  counted(counter: string): number {
    const count = this.#counted.get(counter);
    return count === undefined ? 0 : count.before + count.life;
  }

  async #get(path: string): Promise<{ ok: boolean; text: string } | undefined> {
    try {
      const signal = AbortSignal.timeout(METRICS_MS_MAX);
      const answer = await fetch(`${this.#admin}${path}`, { signal });
      return { ok: answer.ok, text: await answer.text() };
    } catch {
      return undefined; // away or frozen, as it is half of the time
    }
  }
}
