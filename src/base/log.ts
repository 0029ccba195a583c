/** Structured logs: one pino logger, JSON lines unless a terminal reads them. */
import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ['json', 'pretty'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/**
 * What is logged of an error. Nothing else that hangs on it: clients of servers put the failed command there,
 * with the password where that was AUTH.
 */
export function plainError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const { name, message, stack } = error;
  const code = 'code' in error ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: plainError(error.cause) };
  return { type: name, message, stack, ...code, ...cause };
}

/**
 * Logs go to standard error: standard output belongs to what a command prints (the ready line, tables, JSON).
 */
export function createLogger(level: LogLevel, format: LogFormat): Logger {
  const options = {
    level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: plainError },
  };
  if (format === 'json') return pino(options, pino.destination({ dest: 2, sync: true }));
  return pino(options, pino.transport({ target: 'pino-pretty', options: { destination: 2, ignore: 'pid' } }));
}
