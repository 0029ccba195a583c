/**
 * Lets load balancers notice that a gateway is leaving before it leaves. They learn it from /ready (or the
 * gRPC health service) at their own pace, and until then they send new connections here. So whoever has been
 * asking regularly is waited for until it has been told "not ready" as often as such checks want to hear it;
 * where nobody asks, nobody is waited for. Meanwhile everything is taken as before.
 */
import { sleep, tickMs } from '../base/clock.ts';

/** The usual thresholds of Kubernetes, HAProxy and Envoy: so many failures in a row, then others get it. */
const TOLD_TIMES = 3;
/** From the last of them until no new connection comes any more: rules have to travel. */
const SETTLE_MS = 500;
/** Who hasn't asked for so long doesn't watch (any more): longer than periods of health checks are. */
const RECENT_MS = 60_000;
/** Who has missed so many of its own periods, and at least so long, has left or knows enough. */
const PERIODS_MISSED = 3;
const PERIOD_MS_MIN = 300;
const POLL_MS = 20;
/** Nodes of a large load balancer each ask by themselves. */
const WATCHERS_MAX = 100;

interface Watcher {
  atTick: number;
  /** Between its last two questions; undefined for one who has asked once only, as people do. */
  periodMs: number | undefined;
  /** How often it has been told that this gateway is leaving. */
  told: number;
}

export class Notice {
  readonly #watchers = new Map<string, Watcher>();
  #leaving = false;

  /** Somebody asked whether this gateway is ready. @param who its address */
  asked(who: string): void {
    const now = tickMs();
    const before = this.#watchers.get(who);
    // Whoever comes only now learns it at once.
    if (this.#leaving && before === undefined) return;
    const periodMs = before && now - before.atTick;
    const told = (before?.told ?? 0) + (this.#leaving ? 1 : 0);
    this.#watchers.delete(who);
    this.#watchers.set(who, { atTick: now, periodMs, told });
    const [oldest] = this.#watchers.keys();
    if (this.#watchers.size > WATCHERS_MAX && oldest !== undefined) this.#watchers.delete(oldest);
  }

  /**
   * From now on the answer is "not ready". Resolves when all who watch have been told often enough, in a
   * moment when nobody does, and after `msMax` at the latest.
   */
  async given(msMax: number): Promise<void> {
    this.#leaving = true;
    const untilTick = tickMs() + msMax;
    let waited = false;
    for (;;) {
      // Who asked while this process stood still was not too late: it is heard before that is judged.
      if (!this.#someoneWaits()) await sleep(POLL_MS);
      if (!this.#someoneWaits() || tickMs() >= untilTick) break;
      waited = true;
      await sleep(POLL_MS);
    }
    if (waited) await sleep(Math.max(0, Math.min(SETTLE_MS, untilTick - tickMs())));
  }

  #someoneWaits(): boolean {
    const now = tickMs();
    return [...this.#watchers.values()].some(({ atTick, periodMs, told }) => {
      if (periodMs === undefined || told >= TOLD_TIMES) return false;
      const patienceMs = Math.min(RECENT_MS, PERIODS_MISSED * Math.max(periodMs, PERIOD_MS_MIN));
      return now - atTick < patienceMs;
    });
  }
}
