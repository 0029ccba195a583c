/** The few calls of the C library that Node doesn't offer. Linux with glibc, which libchdb needs anyway. */
import { DataType, load, open } from 'ffi-rs';
import { ConfigurationError, assert } from '../base/errors.ts';

const LIBC = 'libc.so.6';
/** prctl(2): the signal that this process gets when the thread that started it ends. */
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
/** flock(2) */
const LOCK_EX = 2;
const LOCK_NB = 4;

function call(funcName: string, ...parameters: number[]): number {
  if (process.platform !== 'linux') {
    throw new ConfigurationError(
      `the embedded services need Linux, this is ${process.platform}: ` +
        'set SLUICE_CLICKHOUSE_URL and SLUICE_REDIS_URL to servers of your own',
    );
  }
  open({ library: LIBC, path: LIBC });
  const paramsType = parameters.map(() => DataType.I32);
  return load({ library: LIBC, funcName, retType: DataType.I32, paramsType, paramsValue: parameters });
}

/** From now on the kernel kills this process when its parent ends, also when that is killed with -9. */
export function dieWithParent(parentPid: number): void {
  assert(call('prctl', PR_SET_PDEATHSIG, SIGKILL) === 0, 'prctl(PR_SET_PDEATHSIG) works on every Linux');
  // The parent may have ended before the call: then nobody will send the signal any more.
  if (process.ppid !== parentPid) process.exit(1);
}

/**
 * Whether the file behind the descriptor could be locked. The kernel lets go of it when the process ends,
 * however.
 */
export function tryLock(descriptor: number): boolean {
  return call('flock', descriptor, LOCK_EX | LOCK_NB) === 0;
}
