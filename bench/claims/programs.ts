/** Programs that a claim starts for itself: on free ports, without what the caller's environment says. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { resolve } from 'node:path';

const READY_MS_MAX = 120_000;
const SLUICE = resolve(import.meta.dirname, '../../bin/sluice');

/** The three addresses of a role, on `from` and the two ports after it. */
export function addresses(from: number) {
  return {
    SLUICE_GRPC_ADDR: `127.0.0.1:${from}`,
    SLUICE_HTTP_ADDR: `127.0.0.1:${from + 1}`,
    SLUICE_ADMIN_ADDR: `127.0.0.1:${from + 2}`,
  };
}

/** Resolves with the process once it has printed that it takes data. */
export async function startSluice(role: string, settings: Record<string, string>): Promise<ChildProcess> {
  const environment = Object.entries(process.env).filter(([name]) => !/^(SLUICE_|NODE_OPTIONS)/.test(name));
  const child = spawn(SLUICE, [role], {
    env: { ...Object.fromEntries(environment), ...settings },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let late: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((ready, failed) => {
      late = setTimeout(() => failed(new Error(`sluice ${role}: not ready in time`)), READY_MS_MAX);
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        if (text.includes('sluice ready:')) ready();
      });
      child.once('exit', (code) => failed(new Error(`sluice ${role} ended with ${code}`)));
    });
    return child;
  } catch (error) {
    await ended(child);
    throw error;
  } finally {
    clearTimeout(late);
  }
}

/** Ends the process and resolves when it is gone. */
export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolveExit) => child.once('exit', resolveExit));
  child.kill('SIGTERM');
  await exit;
}

/** The first of `count` ports in a row on which nobody listens. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = 12_000 + Math.floor(Math.random() * 19_000);
    const free = await Promise.all(Array.from({ length: count }, (_, index) => isFree(first + index)));
    if (free.every(Boolean)) return first;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolveFree) => {
    const server = createServer();
    server.once('error', () => resolveFree(false));
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => server.close(() => resolveFree(true)));
  });
}
