/**
 * Loaded into a role with `--import`: its wall clock is off by what stands in the file of CHAOS_CLOCK_FILE
 * (ms), read at the start and again at each SIGUSR2. So a clock jumps under a running process, as it does
 * when a machine's time is set. The monotonic clock stays, as it does then.
 */
import { existsSync, readFileSync } from 'node:fs';

const file = process.env.CHAOS_CLOCK_FILE ?? '';
const RealDate = Date;
let shiftMs = 0;

function read(): void {
  shiftMs = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
}

const now = () => RealDate.now() + shiftMs;

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as Date,
  apply: () => new RealDate(now()).toString(),
  get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
});

read();
process.on('SIGUSR2', read);
