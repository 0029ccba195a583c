/** CPU and memory of processes, from Linux' /proc; elsewhere there are none to look at. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface Role {
  readonly role: string;
  readonly pid: number;
}

export interface ProcessFigures extends Role {
  /** User and system, all threads, while it was watched. */
  readonly cpuSeconds: number;
  readonly rssBytesMax: number;
  readonly rssBytesEnd: number;
}

interface Watched extends Role {
  readonly cpuSecondsBefore: number;
  cpuSeconds: number;
  rssBytes: number;
  rssBytesMax: number;
}

/** From construction on; `sample` now and then finds the peak of the memory. */
export class ProcessWatch {
  readonly #watched: Watched[] = [];

  /** Processes that don't exist are left out. */
  constructor(roles: readonly Role[]) {
    for (const { role, pid } of roles) {
      const cpuSeconds = cpuSecondsOf(pid);
      const rssBytes = rssBytesOf(pid);
      if (cpuSeconds === undefined || rssBytes === undefined) continue;
      this.#watched.push({
        role,
        pid,
        cpuSecondsBefore: cpuSeconds,
        cpuSeconds,
        rssBytes,
        rssBytesMax: rssBytes,
      });
    }
  }

  /** @param only roles to look at: the others keep the figures of the sample before */
  sample(only: (role: string) => boolean = () => true): void {
    for (const watched of this.#watched) {
      if (!only(watched.role)) continue;
      // A process that is gone keeps its last figures.
      watched.cpuSeconds = cpuSecondsOf(watched.pid) ?? watched.cpuSeconds;
      watched.rssBytes = rssBytesOf(watched.pid) ?? watched.rssBytes;
      watched.rssBytesMax = Math.max(watched.rssBytesMax, watched.rssBytes);
    }
  }

  /** Resident memory at the last sample, of all roles that `only` lets through. */
  rssBytes(only: (role: string) => boolean): number {
    return this.#watched.reduce((sum, { role, rssBytes }) => sum + (only(role) ? rssBytes : 0), 0);
  }

  /** As of the last sample. */
  figures(): ProcessFigures[] {
    return this.#watched.map(({ role, pid, cpuSeconds, cpuSecondsBefore, rssBytes, rssBytesMax }) => ({
      role,
      pid,
      cpuSeconds: cpuSeconds - cpuSecondsBefore,
      rssBytesMax,
      rssBytesEnd: rssBytes,
    }));
  }
}

/**
 * The processes that listen on these TCP ports of this machine; ports on which nobody (visible) listens give
 * none.
 */
export function listenersOf(ports: readonly { role: string; port: number }[]): Role[] {
  const byInode = new Map<string, string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const { port, inode } of listeningSockets(table)) {
      const wanted = ports.find((one) => one.port === port);
      if (wanted !== undefined) byInode.set(`socket:[${inode}]`, wanted.role);
    }
  }
  if (byInode.size === 0) return [];
  return pidsOfAll().flatMap((pid) => {
    const role = socketsOf(pid)
      .map((link) => byInode.get(link))
      .find((name) => name !== undefined);
    return role === undefined ? [] : [{ role, pid }];
  });
}

/**
 * Processes of which an argument ends in the first word and the next one is the second (`…/sluice`,
 * `writer`).
 */
export function processesByCommand(program: string, argument: string): number[] {
  return pidsOfAll().filter((pid) => {
    const words = (read(`/proc/${pid}/cmdline`) ?? '').split('\0');
    return words.some((word, index) => word.endsWith(program) && words[index + 1] === argument);
  });
}

const LISTEN = '0A';

function listeningSockets(table: string): { port: number; inode: string }[] {
  const lines = (read(table) ?? '').split('\n').slice(1);
  return lines.flatMap((line) => {
    const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
    return state === LISTEN ? [{ port: Number.parseInt(local.split(':')[1] ?? '', 16), inode }] : [];
  });
}

function pidsOfAll(): number[] {
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function socketsOf(pid: number): string[] {
  return list(`/proc/${pid}/fd`).flatMap((name) => {
    const link = absentAsUndefined(() => readlinkSync(`/proc/${pid}/fd/${name}`));
    return link === undefined ? [] : [link];
  });
}

let ticksPerSecond = 0;

function cpuSecondsOf(pid: number): number | undefined {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  if (ticksPerSecond === 0)
    ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  // The name in brackets may hold spaces; user and system time are the 12th and 13th field after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function rssBytesOf(pid: number): number | undefined {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

function read(path: string): string | undefined {
  return absentAsUndefined(() => readFileSync(path, 'utf8'));
}

function list(path: string): string[] {
  return absentAsUndefined(() => readdirSync(path)) ?? [];
}

/** Processes end while one looks at them, and those of other users can't be read. */
const ABSENT: readonly unknown[] = ['ENOENT', 'ESRCH', 'EACCES', 'EPERM'];

function absentAsUndefined<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (ABSENT.includes((error as NodeJS.ErrnoException).code)) return undefined;
    throw error;
  }
}
