/** Waiting with a bound: for replicas to follow, mutations to end, tasks of the DDL queue to be done. */
import { sleep, tickMs } from '../base/clock.ts';
import { Fault } from '../base/errors.ts';

const POLL_MS_MIN = 20;
const POLL_MS_MAX = 1_000;

/**
 * Asks again and again, less and less often, until there is an answer other than undefined.
 * @param waiting what is waited for, in words, at the moment when the time is over
 * @throws Fault `migrate_timeout` after `msMax`, and whatever `check` throws
 */
export async function waitFor<T>(
  msMax: number,
  check: () => Promise<T | undefined>,
  waiting: () => string,
): Promise<T> {
  const startMs = tickMs();
  for (let pauseMs = POLL_MS_MIN; ; pauseMs = Math.min(POLL_MS_MAX, pauseMs * 1.5)) {
    const answer = await check();
    if (answer !== undefined) return answer;
    const leftMs = startMs + msMax - tickMs();
    if (leftMs <= 0) {
      const seconds = Math.round(msMax / 1000);
      throw new Fault(
        'migrate_timeout',
        'here',
        `${waiting()} (not within ${seconds} s, SLUICE_MIGRATIONS_WAIT_MS_MAX)`,
      );
    }
    await sleep(Math.min(pauseMs, leftMs));
  }
}
