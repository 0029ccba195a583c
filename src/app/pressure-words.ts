/** What is said of each reason for pushing back: to clients, to the log, and which setting changes it. */
import type { PressureReason, Reading } from '../admit/pressure.ts';

interface Words {
  readonly setting: string;
  /** What happens, for the log. */
  readonly what: string;
  /** The figure, with its unit; a sentence goes on with the limit. */
  readonly value: (value: number) => string;
}

const WORDS: Readonly<Record<PressureReason, Words>> = {
  queue_full: {
    setting: 'SLUICE_QUEUE_BYTES_MAX',
    what: 'the queue is full',
    value: (value) => `${value} bytes wait to be written`,
  },
  queue_old: {
    setting: 'SLUICE_PRESSURE_QUEUE_AGE_SECONDS_MAX',
    what: 'batches wait for too long',
    value: (value) => `the oldest batch waits for ${value} s`,
  },
  redis_memory: {
    setting: 'SLUICE_PRESSURE_REDIS_MEMORY_PERCENT_MAX',
    what: 'Redis runs out of memory',
    value: (value) => `Redis uses ${value} bytes of memory`,
  },
  clickhouse_parts: {
    setting: 'SLUICE_PRESSURE_PARTS_PERCENT_MAX',
    what: 'ClickHouse has too many parts in a partition',
    value: (value) => `a partition in ClickHouse has ${value} parts`,
  },
  clickhouse_disk: {
    setting: 'SLUICE_PRESSURE_DISK_FREE_PERCENT_MIN',
    what: 'a disk of ClickHouse is nearly full',
    value: (value) => `${value} % of a disk of ClickHouse are free`,
  },
  replication_delay: {
    setting: 'SLUICE_PRESSURE_REPLICA_DELAY_SECONDS_MAX',
    what: 'replicas of ClickHouse are behind',
    value: (value) => `all replicas of a shard but one are ${value} s behind, or more`,
  },
  commit_slow: {
    setting: 'SLUICE_PRESSURE_COMMIT_MS_MAX',
    what: 'commits to Redis are slow',
    value: (value) => `a commit to Redis takes ${value} ms`,
  },
  event_loop: {
    setting: 'SLUICE_PRESSURE_EVENT_LOOP_MS_MAX',
    what: 'this gateway is out of CPU',
    value: (value) => `this gateway is ${value} ms late with everything`,
  },
  memory: {
    setting: 'SLUICE_PRESSURE_MEMORY_BYTES_MAX',
    what: 'this gateway is short of memory',
    value: (value) => `this gateway uses ${value} bytes of memory`,
  },
  requests_in_flight: {
    setting: 'SLUICE_RECEIVE_REQUESTS_IN_FLIGHT_MAX',
    what: 'nearly as many requests as may be are in flight',
    value: (value) => `${value} requests are in flight`,
  },
  bytes_in_flight: {
    setting: 'SLUICE_RECEIVE_BYTES_IN_FLIGHT_MAX',
    what: 'nearly as many bytes as may be are in flight',
    value: (value) => `${value} bytes of requests are in flight`,
  },
};

/** For clients: the figure, the limit, and the setting to change. */
export function refusalOf({ reason, value, limit }: Reading): string {
  const { setting, value: say } = WORDS[reason];
  return `${say(figure(value))}, the limit is ${figure(limit)} (${setting}); come back later`;
}

/** For the log. */
export function pushedBack(reason: PressureReason): string {
  const { what, setting } = WORDS[reason];
  return `${what}: clients are pushed back (${setting})`;
}

/** For the log. @param foretold the limit is still far, but would be reached within the horizon */
export function slowed(reason: PressureReason, foretold: boolean): string {
  const { what, setting } = WORDS[reason];
  return `${what}${foretold ? ' soon, as it goes now' : ', nearly'}: clients are slowed (${setting})`;
}

export function settingOf(reason: PressureReason): string {
  return WORDS[reason].setting;
}

/** At most two digits behind the point. */
function figure(value: number): number {
  return Math.round(value * 100) / 100;
}
