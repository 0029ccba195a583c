/**
 * Becomes a ClickHouse server: loads libchdb, which holds all of `clickhouse local`, lets it listen on TCP
 * and HTTP and gives it a query that sleeps for ever. Run as a program of its own, with one argument: a
 * ClickHouseChild as JSON.
 *
 * ffi-rs calls on the caller's own stack. A binding that switches stacks (koffi) makes ClickHouse believe
 * that its stack is exhausted (TOO_DEEP_RECURSION) and crash.
 */
import { DataType, load, open } from 'ffi-rs';
import { dieWithParent } from './libc.ts';

export interface ClickHouseChild {
  readonly library: string;
  readonly configFile: string;
  readonly dataPath: string;
  readonly host: string;
  readonly httpPort: number;
  readonly tcpPort: number;
  readonly logLevel: 'warning' | 'information' | 'trace';
  readonly parentPid: number;
}

const SLEEP_FOR_EVER =
  'SELECT sleepEachRow(1) FROM numbers(1000000000) ' +
  'SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1, max_rows_to_read = 0, ' +
  'max_execution_time = 0 FORMAT Null';

function serve(child: ClickHouseChild): void {
  dieWithParent(child.parentPid);
  open({ library: 'chdb', path: child.library });
  // As for `clickhouse local`, but without the word "local". That program logs everything (trace) whatever
  // the configuration file says; only the argument changes it.
  const args = [
    'clickhouse',
    `--config-file=${child.configFile}`,
    `--path=${child.dataPath}`,
    '--listen_host',
    child.host,
    '--tcp_port',
    String(child.tcpPort),
    '--http_port',
    String(child.httpPort),
    '--log-level',
    child.logLevel,
    '--query',
    `SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; ${SLEEP_FOR_EVER}`,
  ];
  const result = load({
    library: 'chdb',
    funcName: 'chdb_query_cmdline',
    retType: DataType.External,
    paramsType: [DataType.I32, DataType.StringArray],
    paramsValue: [args.length, args],
  });
  const message = load({
    library: 'chdb',
    funcName: 'chdb_result_error',
    retType: DataType.String,
    paramsType: [DataType.External],
    paramsValue: [result],
  });
  process.stderr.write(`ClickHouse ended: ${message}\n`);
  process.exit(1);
}

serve(JSON.parse(process.argv[2] ?? '{}') as ClickHouseChild);
