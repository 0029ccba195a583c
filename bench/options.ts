/** The command line of the load generator: every option with its unit, default and bounds. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { type Signal, SIGNALS } from '../src/model/signal.ts';
import { REQUEST_ITEMS_MAX } from './identity.ts';
import type { Role } from './measure/processes.ts';
import { COMPRESSIONS, type Compression, type Protocol, PROTOCOLS, type Target } from './send/sender.ts';

export interface BenchOptions {
  readonly signals: readonly Signal[];
  readonly protocol: Protocol;
  readonly compression: Compression;
  readonly targets: readonly Target[];
  readonly connections: number;
  /** Requests at once on each connection; only gRPC can have more than one. */
  readonly streams: number;
  /** Items a second; undefined is as fast as it goes. */
  readonly rate: number | undefined;
  readonly seconds: number;
  readonly itemsMax: number;
  readonly requestItems: number | undefined;
  readonly seed: number;
  readonly retries: number;
  readonly timeoutMs: number;
  /** undefined: nothing is asked afterwards. */
  readonly clickhouse: string | undefined;
  readonly database: string;
  readonly waitMs: number;
  /** How long merges may take to come to rest before ClickHouse's CPU is read; 0 doesn't wait for them. */
  readonly settleMs: number;
  /** 0: freshness is not probed. */
  readonly freshnessMs: number;
  /** `auto` looks for them on this machine. */
  readonly pids: readonly Role[] | 'auto';
  readonly redis: Target;
  readonly json: boolean;
}

const DEFAULT_PORTS: Readonly<Record<Protocol, number>> = {
  grpc: 4317,
  'http-protobuf': 4318,
  'http-json': 4318,
};

/** What commander hands over: each option parsed by itself. */
interface RawOptions {
  readonly signals: Signal[];
  readonly protocol: Protocol;
  readonly compression: Compression;
  readonly target?: Target[];
  readonly connections: number;
  readonly streams: number;
  readonly rate?: number;
  readonly duration?: number;
  readonly items?: number;
  readonly requestItems?: number;
  readonly seed: number;
  readonly retries: number;
  readonly timeout: number;
  readonly clickhouse: string;
  readonly database: string;
  readonly wait: number;
  readonly settle: number;
  readonly freshness: number;
  readonly pids: Role[] | 'auto';
  readonly redis: Target;
  readonly json?: boolean;
}

const DURATION_DEFAULT_S = 10;

const count = (min: number, max: number) => numberParser(min, max, true);
const amount = (min: number, max: number) => numberParser(min, max, false);

/** The options that main.ts and every claim understand. */
export function benchCommand(name: string, description: string): Command {
  const command = new Command(name).description(description).exitOverride().allowExcessArguments(false);
  for (const option of [...sendingOptions(), ...countingOptions()]) command.addOption(option);
  return command;
}

/** What is sent, how, and how much of it. */
function sendingOptions(): Option[] {
  return [
    new Option('-s, --signals <list>', 'what to send, separated by commas: traces, logs, metrics')
      .argParser(parseSignals)
      .default(['traces'], 'traces'),
    new Option('-p, --protocol <name>', 'how').choices(PROTOCOLS).default('http-protobuf'),
    new Option('-z, --compression <name>', 'of the requests; zstd over HTTP only')
      .choices(COMPRESSIONS)
      .default('none'),
    new Option(
      '-t, --target <host:port,…>',
      'where to; default 127.0.0.1 and the port of the protocol',
    ).argParser(parseTargets),
    new Option('-c, --connections <n>', 'spread over the targets').argParser(count(1, 10_000)).default(8),
    new Option('--streams <n>', 'requests at once per connection, gRPC only')
      .argParser(count(1, 100))
      .default(1),
    new Option(
      '-r, --rate <items/s>',
      'fixed rate of all signals together; default: as fast as it goes',
    ).argParser(amount(0.01, 1e9)),
    new Option(
      '-d, --duration <s>',
      `how long to send; default ${DURATION_DEFAULT_S} unless --items is given`,
    ).argParser(amount(0.1, 86_400)),
    new Option('-n, --items <n>', 'stop after so many items').argParser(count(1, 1e12)),
    new Option('--request-items <n>', 'items a request; default 521 to 1097, by signal').argParser(
      count(1, REQUEST_ITEMS_MAX),
    ),
    new Option('--seed <n>', 'of the content').argParser(count(0, 0xffffffff)).default(1),
    new Option('--retries <n>', 'per request, same bytes, when the answer is retryable or missing')
      .argParser(count(0, 1000))
      .default(5),
    new Option('--timeout <s>', 'until an answer counts as missing').argParser(amount(0.1, 3600)).default(30),
  ];
}

/** What is asked and measured beside it. */
function countingOptions(): Option[] {
  return [
    new Option('--clickhouse <url>', 'where the items end up, or none').default('http://127.0.0.1:8123'),
    new Option('--database <name>', 'of the tables').default('otel'),
    new Option('--wait <s>', 'for the last acknowledged item to arrive there')
      .argParser(amount(0, 86_400))
      .default(60),
    new Option('--settle <s>', "for ClickHouse's merges to end, before sending and before its CPU is read")
      .argParser(amount(0, 86_400))
      .default(0),
    new Option('--freshness <ms>', 'how often to probe how soon an item can be read; 0: never')
      .argParser(amount(0, 60_000))
      .default(100),
    new Option(
      '--pids <role=pid,…>',
      'processes whose CPU and memory to measure (Linux); auto: those listening on the addresses used, none',
    )
      .argParser(parsePids)
      .default('auto'),
    new Option('--redis <host:port>', 'by which --pids auto finds Redis')
      .argParser(parseTarget)
      .default({ host: '127.0.0.1', port: 6379 }, '127.0.0.1:6379'),
    new Option('--json', 'the report as JSON'),
  ];
}

/**
 * Reads what the command has parsed.
 * @throws CommanderError for combinations that make no sense (exit code 2)
 */
export function optionsOf(command: Command): BenchOptions {
  const raw = command.opts<RawOptions>();
  if (raw.protocol === 'grpc' && raw.compression === 'zstd') {
    command.error(
      'error: --compression zstd: OTLP/gRPC knows only none and gzip; take those or --protocol http-protobuf',
    );
  }
  if (raw.protocol !== 'grpc' && raw.streams !== 1) {
    command.error('error: --streams: HTTP/1.1 has one request at a time on a connection; take --connections');
  }
  if (raw.clickhouse !== 'none' && !URL.canParse(raw.clickhouse)) {
    command.error(
      `error: --clickhouse ${raw.clickhouse}: wanted is http(s)://user:password@host:port, or none`,
    );
  }
  const seconds = raw.duration ?? (raw.items === undefined ? DURATION_DEFAULT_S : Number.POSITIVE_INFINITY);
  return {
    signals: raw.signals,
    protocol: raw.protocol,
    compression: raw.compression,
    targets: raw.target ?? [{ host: '127.0.0.1', port: DEFAULT_PORTS[raw.protocol] }],
    connections: raw.connections,
    streams: raw.streams,
    rate: raw.rate,
    seconds,
    itemsMax: raw.items ?? Number.POSITIVE_INFINITY,
    requestItems: raw.requestItems,
    seed: raw.seed,
    retries: raw.retries,
    timeoutMs: raw.timeout * 1000,
    clickhouse: raw.clickhouse === 'none' ? undefined : raw.clickhouse,
    database: raw.database,
    waitMs: raw.wait * 1000,
    settleMs: raw.settle * 1000,
    freshnessMs: raw.freshness,
    pids: raw.pids,
    redis: raw.redis,
    json: raw.json ?? false,
  };
}

function numberParser(min: number, max: number, whole: boolean): (text: string) => number {
  return (text) => {
    const value = Number(text.replaceAll('_', ''));
    const fits = text.trim() !== '' && value >= min && value <= max && (!whole || Number.isInteger(value));
    if (!fits)
      throw new InvalidArgumentError(`wanted is a ${whole ? 'whole ' : ''}number from ${min} to ${max}.`);
    return value;
  };
}

function parseSignals(text: string): Signal[] {
  const names = [...new Set(text.split(','))];
  const signals = names.map((name) => {
    const signal = SIGNALS.find((one) => one === name);
    if (signal === undefined) throw new InvalidArgumentError(`${name} is none of ${SIGNALS.join(', ')}.`);
    return signal;
  });
  return signals;
}

function parseTarget(text: string): Target {
  const match = /^(?:http:\/\/)?(\[[0-9a-fA-F:]+\]|[^:/]+):(\d{1,5})\/?$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port < 1 || port > 65_535)
    throw new InvalidArgumentError(`${text} is not host:port.`);
  return { host: (match[1] ?? '').replace(/^\[|\]$/g, ''), port };
}

/** @throws InvalidArgumentError, for commander to tell */
export function parseTargets(text: string): Target[] {
  return text.split(',').map(parseTarget);
}

function parsePids(text: string): Role[] | 'auto' {
  if (text === 'auto') return 'auto';
  if (text === 'none') return [];
  return text.split(',').map((pair) => {
    const match = /^([A-Za-z][\w+-]*)=(\d+)$/.exec(pair);
    if (match === null) throw new InvalidArgumentError(`${pair} is not role=pid, for example gateway=4711.`);
    return { role: match[1] ?? '', pid: Number(match[2]) };
  });
}
