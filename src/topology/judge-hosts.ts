/** What is wrong with each host by itself, or with two of them side by side. Pure: reports in, faults out. */
import { parseVersion } from '../clickhouse/client.ts';
import { type TopologyFault, fault, listOf } from './faults.ts';
import type { HostReport, ReachableHost, UnreachableHost } from './host-report.ts';

/**
 * Records carry times of nanoseconds, and TTLs and tokens count seconds: two are more than any clock
 * needs.
 */
const CLOCK_SKEW_MS_MAX = 2_000;
const DISK_FREE_SHARE_MIN = 0.05;
const DISK_FREE_BYTES_MIN = 2 ** 30;
/** A major version is a year: replication and Distributed are tried between neighbours only. */
const MAJORS_APART_MAX = 1;
/** The oldest version that has everything which the tables of sql/ want. */
const VERSION_MIN = { major: 23, minor: 8 };

const UNRESOLVED_CODES: ReadonlySet<string> = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL']);
const REFUSED_CODES: ReadonlySet<string> = new Set([
  'AUTHENTICATION_FAILED',
  'WRONG_PASSWORD',
  'REQUIRED_PASSWORD',
  'UNKNOWN_USER',
  'IP_ADDRESS_NOT_ALLOWED',
]);

export function reachable(reports: readonly HostReport[]): ReachableHost[] {
  return reports.filter((report) => report.reachable);
}

/** Every host that can't be asked, with the reason; without an address: see `address_missing` in judge.ts. */
export function judgeReach(reports: readonly HostReport[]): TopologyFault[] {
  const away = reports.filter((report): report is UnreachableHost => !report.reachable);
  return away.filter(({ url }) => url !== undefined).map((report) => awayFault(report));
}

function awayFault({ host, code, why, address }: UnreachableHost): TopologyFault {
  if (REFUSED_CODES.has(code)) {
    return fault(
      'credentials_refused',
      [host],
      `${host} refuses user or password (${code}): mend them for this host in SLUICE_CLICKHOUSE_URL, or in ` +
        'SLUICE_CLICKHOUSE_ADDRESSES where it stands there',
    );
  }
  const mapping =
    address === undefined
      ? ''
      : `, or say with SLUICE_CLICKHOUSE_ADDRESSES=${address}=http://… where it is reached from here`;
  if (UNRESOLVED_CODES.has(code)) {
    return fault(
      'name_unresolved',
      [host],
      `the name of ${host} doesn't resolve (${code}): mend DNS${mapping}`,
    );
  }
  return fault('host_unreachable', [host], `${why}: start it, or open the way to it${mapping}`);
}

export function isUnresolved(code: string): boolean {
  return UNRESOLVED_CODES.has(code);
}

export function judgeHosts(reports: readonly HostReport[], database: string): TopologyFault[] {
  const hosts = reachable(reports);
  return [
    ...judgeVersions(hosts),
    ...hosts.flatMap((host) => [
      ...judgeClock(host),
      ...judgeDisks(host),
      ...judgeKeeper(host),
      ...judgeTables(host, database),
      ...judgeGrants(host),
    ]),
  ];
}

function judgeVersions(hosts: readonly ReachableHost[]): TopologyFault[] {
  const faults: TopologyFault[] = [];
  const majors = hosts.map(({ version }) => parseVersion(version).major);
  const versions = hosts.map(({ host, version }) => `${host} has ${version}`);
  if (Math.max(...majors) - Math.min(...majors) > MAJORS_APART_MAX) {
    faults.push(
      fault(
        'version_mix',
        hosts.map(({ host }) => host),
        `versions are more than a year apart, which nobody tests together: ${listOf(versions)}; ` +
          'upgrade the older ones first',
      ),
    );
  }
  const old = hosts.filter(({ version }) => isOlder(version));
  if (old.length > 0) {
    const { major, minor } = VERSION_MIN;
    faults.push(
      fault(
        'version_old',
        old.map(({ host }) => host),
        `${listOf(old.map(({ host, version }) => `${host} has ${version}`))}, but the tables of sluice ` +
          'want ' +
          `${major}.${minor} or newer: upgrade, or apply only migrations of your own (SLUICE_MIGRATIONS_DIR)`,
      ),
    );
  }
  return faults;
}

function isOlder(version: string): boolean {
  const { major, minor } = parseVersion(version);
  return major < VERSION_MIN.major || (major === VERSION_MIN.major && minor < VERSION_MIN.minor);
}

function judgeClock({ host, clockSkewMs, clockErrorMs }: ReachableHost): TopologyFault[] {
  if (Math.abs(clockSkewMs) - clockErrorMs <= CLOCK_SKEW_MS_MAX) return [];
  const seconds = (Math.abs(clockSkewMs) / 1000).toFixed(1);
  const direction = clockSkewMs > 0 ? 'ahead of' : 'behind';
  return [
    fault(
      'clock_skew',
      [host],
      `the clock of ${host} is ${seconds} s ${direction} this machine's (limit ` +
        `${CLOCK_SKEW_MS_MAX / 1000} s): ` +
        'let NTP or chrony set both',
    ),
  ];
}

function judgeDisks({ host, disks = [] }: ReachableHost): TopologyFault[] {
  // Disks of object storage tell no size, or one without meaning.
  const full = disks.filter(
    ({ freeBytes, totalBytes }) =>
      totalBytes > 0 && (freeBytes < DISK_FREE_BYTES_MIN || freeBytes / totalBytes < DISK_FREE_SHARE_MIN),
  );
  if (full.length === 0) return [];
  const words = full.map(
    ({ name, freeBytes, totalBytes }) => `disk "${name}" has ${gib(freeBytes)} of ${gib(totalBytes)} free`,
  );
  return [
    fault(
      'disk_full',
      [host],
      `${host}: ${listOf(words)} (limit ${DISK_FREE_SHARE_MIN * 100} % and ${gib(DISK_FREE_BYTES_MIN)}): ` +
        'add space, or keep data for fewer days (SLUICE_RETENTION_DAYS_TRACES, _LOGS, _METRICS)',
    ),
  ];
}

export function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function judgeKeeper({ host, keeper }: ReachableHost): TopologyFault[] {
  if (keeper.state !== 'away') return [];
  return [
    fault(
      'keeper_away',
      [host],
      `${host} doesn't reach its Keeper: replicated tables take no inserts there until it does; look at ` +
        'Keeper, ' +
        `and at <zookeeper> in the configuration of ${host}`,
    ),
  ];
}

function judgeTables({ host, readOnlyTables }: ReachableHost, database: string): TopologyFault[] {
  if (readOnlyTables.length === 0) return [];
  return [
    fault(
      'replica_read_only',
      [host],
      `${host}: ${listOf(readOnlyTables.map((table) => `${database}.${table}`))} can't be written to, ` +
        'because its ' +
        'session with Keeper is lost or Keeper has forgotten it: look at system.replicas there; SYSTEM ' +
        'RESTART ' +
        'REPLICA, or SYSTEM RESTORE REPLICA if Keeper lost its data',
    ),
  ];
}

function judgeGrants({ host, unreadable }: ReachableHost): TopologyFault[] {
  if (unreadable.length === 0) return [];
  const grants = unreadable.map((table) => `GRANT SELECT ON ${table} TO <user>`);
  return [
    fault(
      'grant_missing',
      [host],
      `the user may not read ${listOf(unreadable)} on ${host}, so what they tell can't be checked: ` +
        `${grants.join('; ')}`,
    ),
  ];
}

/** In the order of their first. */
export function groupBy<T, K>(items: readonly T[], of: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = of(item);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return groups;
}
