/**
 * The built program from outside: `bin/sluice` as a child process on free ports and a data folder of its own, with its
 * own /metrics as the witness and ClickHouse's HTTP port to count rows.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { eventually, freePort, makeTempDir, removeTempDir } from './services.ts';

const ROOT = resolve(import.meta.dirname, '../..');
export const SLUICE = join(ROOT, 'bin/sluice');

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Program {
  readonly pid: number;
  readonly http: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly admin: string;
  readonly clickhouse: string;
  /** The settings it was started with, to start it again on the same data. */
  readonly environment: Readonly<Record<string, string>>;
  readonly ended: Promise<Ended>;
  stdout(): string;
  stderr(): string;
  /** Sends the signal and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<Ended>;
  /** One sample of /metrics; 0 where it isn't there. Labels in any order. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  /** JSONEachRow of the embedded ClickHouse. */
  rows<Row = Record<string, unknown>>(sql: string): Promise<Row[]>;
}

/** Free ports for every listener, and a data folder; `extra` wins. */
export async function environmentFor(
  dataDir: string,
  extra: Readonly<Record<string, string>> = {},
): Promise<Record<string, string>> {
  return {
    SLUICE_GRPC_ADDR: `127.0.0.1:${await freePort()}`,
    SLUICE_HTTP_ADDR: `127.0.0.1:${await freePort()}`,
    SLUICE_ADMIN_ADDR: `127.0.0.1:${await freePort()}`,
    SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT: `${await freePort()}`,
    SLUICE_EMBEDDED_CLICKHOUSE_TCP_PORT: `${await freePort()}`,
    SLUICE_EMBEDDED_REDIS_PORT: `${await freePort()}`,
    SLUICE_DATA_DIR: dataDir,
    SLUICE_RETENTION_DAYS_TRACES: '0',
    SLUICE_RETENTION_DAYS_LOGS: '0',
    SLUICE_RETENTION_DAYS_METRICS: '0',
    SLUICE_LOG_LEVEL: 'info',
    ...extra,
  };
}

/**
 * A command that hasn't ended by then never will: it is killed, so that it doesn't outlive its tests. On a busy
 * machine node alone takes seconds to start.
 */
const RUN_MS_MAX = 90_000;
const READY_MS_MAX = 90_000;
/** How long tests wait for what takes a second or two: processes may stand still for some. */
export const PATIENCE_MS = 60_000;
/** For tests that start and end a program or two, as long as hooks have anyway. */
export const START_MS_MAX = 180_000;

/** Runs `sluice <args>` to its end. */
export async function run(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Ended & { stdout: string; stderr: string }> {
  const { child, ended, stdout, stderr } = launch(args, environment);
  const timer = setTimeout(() => child.kill('SIGKILL'), RUN_MS_MAX);
  const end = await ended;
  clearTimeout(timer);
  return { ...end, stdout: stdout(), stderr: stderr() };
}

/** Starts a role and resolves when it has printed its ready line. */
export async function start(role: string, environment: Readonly<Record<string, string>>): Promise<Program> {
  const program = begin(role, environment);
  try {
    await untilReady(program);
  } catch (error) {
    await program.end('SIGKILL');
    throw error;
  }
  return program;
}

/** Starts a role without waiting for anything. */
export function begin(role: string, environment: Readonly<Record<string, string>>): Program {
  const { child, ended, stdout, stderr } = launch([role], environment);
  return view(child, ended, stdout, stderr, environment);
}

export function isReady(program: Program): boolean {
  return /^sluice ready: /m.test(program.stdout());
}

/** Resolves when the ready line is there. @throws Error when the program ends before it */
export async function untilReady(program: Program): Promise<void> {
  let over = false;
  program.ended.then(() => {
    over = true;
  });
  await eventually(
    'the ready line',
    () => {
      if (over) throw new Error(`ended before it was ready:\n${program.stdout()}\n${program.stderr()}`);
      return isReady(program);
    },
    READY_MS_MAX,
  );
}

/** Resolves when no request and no byte of one is inside. */
export async function untilIdle(program: Program): Promise<void> {
  await eventually('nothing in flight', async () => {
    const requests = await program.metric('requests_in_flight');
    return requests === 0 && (await program.metric('bytes_in_flight')) === 0;
  }, PATIENCE_MS);
}

/** A whole `sluice up` for one body: stopped and removed afterwards, whatever happens. */
export async function withUp<T>(
  body: (program: Program) => Promise<T>,
  extra: Readonly<Record<string, string>> = {},
): Promise<T> {
  const dataDir = makeTempDir();
  const program = await start('up', await environmentFor(dataDir, extra));
  try {
    return await body(program);
  } finally {
    await program.end('SIGTERM');
    removeTempDir(dataDir);
  }
}

/**
 * Test files run side by side: how late an event loop is, how long a commit takes and whether Redis answers
 * within some seconds says more about the machine than about the program.
 */
const PATIENT = {
  SLUICE_PRESSURE_EVENT_LOOP_MS_MAX: '10000',
  SLUICE_PRESSURE_COMMIT_MS_MAX: '60000',
  SLUICE_REDIS_TIMEOUT_MS: '20000',
};

/**
 * A connection for each question: the server closes one that has been idle for some seconds, and who asks just
 * then, since one of both stood still, gets no answer.
 */
const ASKED_ONCE = { connection: 'close' };

/**
 * What a test has left running that was broken off at its time limit: vitest ends its worker with SIGTERM, and
 * the programs would go on for ever, in everybody's way.
 */
const running = new Set<ChildProcess>();
if (process.env.VITEST !== undefined && process.connected) {
  process.once('SIGTERM', () => {
    for (const child of running) child.kill('SIGTERM');
    process.exit();
  });
}

function launch(args: readonly string[], environment: Readonly<Record<string, string>>) {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('SLUICE_')),
  );
  const child = spawn(SLUICE, args, {
    env: { ...inherited, ...PATIENT, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out: string[] = [];
  const err: string[] = [];
  child.stdout.setEncoding('utf8').on('data', (text: string) => out.push(text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => err.push(text));
  running.add(child);
  const ended = new Promise<Ended>((resolve) =>
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal });
    }),
  );
  return { child, ended, stdout: () => out.join(''), stderr: () => err.join('') };
}

function view(
  child: ChildProcess,
  ended: Promise<Ended>,
  stdout: () => string,
  stderr: () => string,
  environment: Readonly<Record<string, string>>,
): Program {
  const portOf = (name: string) => Number(/:(\d+)$/.exec(environment[name] ?? '')?.[1]);
  const httpPort = portOf('SLUICE_HTTP_ADDR');
  const admin = `http://127.0.0.1:${portOf('SLUICE_ADMIN_ADDR')}`;
  const clickhouse =
    environment.SLUICE_CLICKHOUSE_URL ??
    `http://127.0.0.1:${environment.SLUICE_EMBEDDED_CLICKHOUSE_HTTP_PORT}`;
  return {
    pid: child.pid ?? 0,
    http: `http://127.0.0.1:${httpPort}`,
    httpPort,
    grpcPort: portOf('SLUICE_GRPC_ADDR'),
    admin,
    clickhouse,
    environment,
    ended,
    stdout,
    stderr,
    end(signal = 'SIGTERM') {
      child.kill(signal);
      return ended;
    },
    async metric(name, labels = {}) {
      const text = await (await fetch(`${admin}/metrics`, { headers: ASKED_ONCE })).text();
      return sample(text, `sluice_${name}`, labels);
    },
    async rows<Row>(sql: string) {
      const answer = await fetch(`${clickhouse}/?output_format_json_quote_64bit_integers=0`, {
        method: 'POST',
        headers: ASKED_ONCE,
        body: `${sql} FORMAT JSONEachRow`,
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${text}\n${sql}`);
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Row);
    },
  };
}

/** The sum of all samples of the name that carry the labels. */
export function sample(text: string, name: string, labels: Readonly<Record<string, string>>): number {
  let sum = 0;
  for (const line of text.split('\n')) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match?.[1] !== name) continue;
    const has = Object.entries(labels).every(([label, value]) =>
      (match[2] ?? '').includes(`${label}="${value}"`),
    );
    if (has) sum += Number(match[3]);
  }
  return sum;
}
