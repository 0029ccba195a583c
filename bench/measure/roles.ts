/** Which processes take part in a run, as far as they are on this machine. */
import type { BenchOptions } from '../options.ts';
import { listenersOf, processesByCommand, type Role } from './processes.ts';

/** ClickHouse's CPU is told apart from that of Sluice and its Redis. */
export const CLICKHOUSE = 'clickhouse';

const LOOPBACK = /^(127\.|::1$|localhost$)/;

/** The given ones, or for `auto` those that listen on the addresses of this machine that the run uses. */
export function rolesOf(options: BenchOptions): Role[] {
  if (options.pids !== 'auto') return [...options.pids];
  const places = options.targets.map(({ host, port }) => ({ role: 'gateway', host, port }));
  places.push({ role: 'redis', ...options.redis });
  if (options.clickhouse !== undefined) {
    const { hostname, port, protocol } = new URL(options.clickhouse);
    places.push({
      role: CLICKHOUSE,
      host: hostname,
      port: Number(port || (protocol === 'https:' ? 443 : 80)),
    });
  }
  const listeners = listenersOf(places.filter(({ host }) => LOOPBACK.test(host)));
  const known = new Set(listeners.map(({ pid }) => pid));
  const writers = processesByCommand('sluice', 'writer').filter((pid) => !known.has(pid));
  return [...listeners, ...writers.map((pid) => ({ role: 'writer', pid }))];
}
