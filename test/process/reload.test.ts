/**
 * Goal: the built program takes a changed configuration while it works: nothing is lost or refused meanwhile, what is
 * wrong is refused and the old settings stay, what needs a restart is named, and files may be swapped as a ConfigMap's.
 */
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { GrpcClient, sendHttp } from '../support/clients.ts';
import { type Program, environmentFor, run, start } from '../support/program.ts';
import { tracesRequest } from '../support/requests.ts';
import { eventually, withTempDir } from '../support/services.ts';

const SPANS = 5;
const MS_MAX = 180_000;

/** Two clients that send all the time; `stop` gives the number of acknowledged spans. */
function load(program: Program): { stop(): Promise<number> } {
  let stopping = false;
  let acknowledged = 0;
  let next = 0;
  const client = async (send: (body: Buffer) => Promise<{ kind: string; message: string }>) => {
    while (!stopping) {
      const { kind, message } = await send(tracesRequest(SPANS, next++));
      expect([kind, message]).toEqual(['accept', '']);
      acknowledged += SPANS;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const grpc = new GrpcClient(program.grpcPort);
  const over = Promise.all([
    client((body) => sendHttp(program.http, 'traces', body)),
    client((body) => grpc.send('traces', body)),
  ]);
  // Said by `stop`.
  over.catch(() => undefined);
  return {
    async stop() {
      stopping = true;
      await over;
      grpc.close();
      return acknowledged;
    },
  };
}

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly reason?: string;
  readonly changed?: readonly string[];
  readonly needsRestart?: readonly string[];
}

/** Whole ones: the last may have come only in part. */
function linesOf(program: Program): Line[] {
  const lines = program.stderr().split('\n').slice(0, -1);
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Line);
}

/** Comes through a pipe of its own, and may be later than what is known of the program otherwise. */
function lineOf(program: Program, msg: string): Promise<Line> {
  return eventually(`the line "${msg}"`, () => linesOf(program).findLast((line) => line.msg === msg));
}
const DEBUG = 20;
const debugLines = (program: Program) => linesOf(program).filter(({ level }) => level === DEBUG).length;

async function reloads(program: Program): Promise<Record<string, number>> {
  const outcomes = ['applied', 'unchanged', 'refused'];
  const counts = await Promise.all(
    outcomes.map((outcome) => program.metric('config_reloads_total', { outcome })),
  );
  return Object.fromEntries(outcomes.map((outcome, i) => [outcome, counts[i] ?? 0]));
}

/** As kubelet does it: a new folder, then one rename of the link that all files go through. */
function mountOf(dir: string): (text: string) => void {
  const mount = join(dir, 'mount');
  let versions = 0;
  const write = (text: string) => {
    const version = `..${versions++}`;
    mkdirSync(join(mount, version), { recursive: true });
    writeFileSync(join(mount, version, 'sluice.yaml'), text);
    symlinkSync(version, join(mount, '..next'));
    renameSync(join(mount, '..next'), join(mount, '..data'));
    if (versions === 1) symlinkSync('..data/sluice.yaml', join(mount, 'sluice.yaml'));
  };
  return write;
}

test('files that change under load', { timeout: MS_MAX }, async () => {
  await withTempDir(async (dir) => {
    const write = mountOf(dir);
    write('limits:\n  attributesMax: 100\nbatch:\n  ageMsMax: 100\nlog:\n  level: info\n');
    const program = await start('up', {
      ...(await environmentFor(dir)),
      SLUICE_LOG_LEVEL: '',
      SLUICE_LOG_FORMAT: 'json',
      SLUICE_CONFIG: join(dir, 'mount/sluice.yaml'),
      SLUICE_CONFIG_POLL_MS: '50',
    });
    try {
      expect(await reloads(program)).toEqual({ applied: 0, unchanged: 0, refused: 0 });
      expect(await program.metric('config_valid')).toBe(1);
      const running = load(program);
      expect(debugLines(program)).toBe(0);

      write('limits:\n  attributesMax: 101\nbatch:\n  ageMsMax: 100\nlog:\n  level: debug\n');
      await eventually('the first change', async () => (await reloads(program)).applied === 1);
      const { changed } = await lineOf(program, 'settings have changed');
      expect(changed).toEqual(['limits.attributesMax', 'log.level']);
      await eventually('lines of debug', () => debugLines(program) > 0);

      write('limits:\n  attributesMax: 102\n  eventsMax: lots\nlog:\n  level: fatal\n');
      await eventually('the refusal', async () => (await program.metric('config_valid')) === 0);
      expect(await reloads(program)).toMatchObject({ applied: 1, refused: 1 });
      const { reason } = await lineOf(program, 'the settings were read again and are refused; the old ones stay');
      expect(reason).toMatch(/limits\.eventsMax .*wanted: a whole number/);
      const before = debugLines(program);
      await eventually('more lines of debug', () => debugLines(program) > before);

      write('limits:\n  attributesMax: 101\nbatch:\n  ageMsMax: 101\ndrain:\n  msMax: 9000\nlog:\n  level: info\n');
      await eventually('the third change', async () => (await reloads(program)).applied === 2);
      expect(await program.metric('config_valid')).toBe(1);
      expect(await program.metric('config_restart_pending')).toBe(2);
      const { needsRestart } = await lineOf(program, 'settings have changed that need a restart');
      expect(needsRestart).toEqual(['batch.ageMsMax', 'drain.msMax']);

      write('limits:\n  attributesMax: 101\nbatch:\n  ageMsMax: 100\nlog:\n  level: info\n');
      await eventually('the way back', async () => (await program.metric('config_restart_pending')) === 0);
      expect(await reloads(program)).toEqual({ applied: 2, unchanged: 1, refused: 1 });

      const acknowledged = await running.stop();
      expect(acknowledged).toBeGreaterThan(0);
      await eventually(`${acknowledged} spans`, async () => {
        const [row] = await program.rows<{ n: number }>('SELECT count() AS n FROM otel.otel_traces');
        return row?.n === acknowledged;
      }, 60_000);
      const [row] = await program.rows<{ n: number }>('SELECT uniqExact(SpanId) AS n FROM otel.otel_traces');
      expect(row?.n).toBe(acknowledged);
      expect((await program.end()).code).toBe(0);
    } finally {
      await program.end('SIGKILL');
    }
  });
});

test('SIGHUP, where nobody looks at the file', { timeout: MS_MAX }, async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, 'sluice.yaml');
    writeFileSync(path, 'log:\n  level: info\n');
    const program = await start('up', {
      ...(await environmentFor(dir)),
      SLUICE_LOG_LEVEL: '',
      SLUICE_LOG_FORMAT: 'json',
      SLUICE_CONFIG: path,
      SLUICE_CONFIG_POLL_MS: '0',
    });
    try {
      writeFileSync(path, 'log:\n  level: debug\n');
      for (const [count, outcome] of [[1, 'applied'], [1, 'unchanged'], [2, 'unchanged']] as const) {
        process.kill(program.pid, 'SIGHUP');
        await eventually(`${outcome} ${count}`, async () => (await reloads(program))[outcome] === count);
      }
      const answer = await sendHttp(program.http, 'traces', tracesRequest(SPANS));
      expect(answer).toMatchObject({ kind: 'accept' });
      await eventually('lines of debug', () => debugLines(program) > 0);
      expect((await program.end()).code).toBe(0);
    } finally {
      await program.end('SIGKILL');
    }
  });
});

test('a start with what a reload would refuse ends with 2 and the same words', { timeout: MS_MAX }, async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, 'sluice.yaml');
    writeFileSync(path, 'limits:\n  eventsMax: lots\n');
    const { code, stderr } = await run(['gateway'], { SLUICE_CONFIG: path });
    expect(code).toBe(2);
    expect(stderr).toMatch(/limits\.eventsMax in .*: the value "lots" can't be used; wanted: a whole number/);
  });
});
