/**
 * The folder that the embedded services keep their data in: there, writable, with room, and ours alone. The
 * lock is flock(2): the kernel lets go of it when the process ends, so none is ever stale, not even after a
 * kill -9.
 */
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, statfsSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ConfigurationError, messageOf } from '../base/errors.ts';
import { tryLock } from './libc.ts';

const MIB = 1024 * 1024;

export interface DataDir {
  /** Absolute. */
  readonly path: string;
  /** Lets another instance have the folder. */
  release(): void;
}

/**
 * Takes the folder for this process, creating it when it is missing.
 * @throws ConfigurationError: it can't be written to, another instance has it (with its pid), or it has
 *   less free space than `diskFreeBytesMin`.
 */
export function openDataDir(dir: string, diskFreeBytesMin: number): DataDir {
  const path = resolve(dir);
  const descriptor = openLockFile(path);
  try {
    takeLock(descriptor, path);
    assertRoom(path, diskFreeBytesMin);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  let held = true;
  const release = () => {
    if (held) closeSync(descriptor);
    held = false;
  };
  return { path, release };
}

function openLockFile(path: string): number {
  try {
    mkdirSync(path, { recursive: true });
    return openSync(join(path, 'lock'), 'a+');
  } catch (cause) {
    throw new ConfigurationError(
      `the data folder ${path} can't be written to (${messageOf(cause)}): ` +
        'set SLUICE_DATA_DIR to a folder that can',
    );
  }
}

function takeLock(descriptor: number, path: string): void {
  if (!tryLock(descriptor)) {
    const owner = readFileSync(join(path, 'lock'), 'utf8').trim();
    throw new ConfigurationError(
      `the data folder ${path} is in use by another sluice (pid ${owner === '' ? 'unknown' : owner}): ` +
        'end that one, or set SLUICE_DATA_DIR to another folder',
    );
  }
  ftruncateSync(descriptor, 0);
  writeSync(descriptor, `${process.pid}\n`);
}

function assertRoom(path: string, diskFreeBytesMin: number): void {
  const { bavail, bsize } = statfsSync(path);
  const freeBytes = bavail * bsize;
  if (freeBytes >= diskFreeBytesMin) return;
  const wantedMib = Math.ceil(diskFreeBytesMin / MIB);
  throw new ConfigurationError(
    `the data folder ${path} has ${Math.floor(freeBytes / MIB)} MiB free, wanted are ${wantedMib} MiB: ` +
      'make room, set SLUICE_DATA_DIR to another disk, or lower SLUICE_EMBEDDED_DISK_FREE_BYTES_MIN',
  );
}
