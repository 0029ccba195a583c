/** Structured logs: one pino logger, JSON lines unless a terminal reads them. */
import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ['json', 'pretty'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/**
 * Logs go to standard error: standard output belongs to what a command prints (the ready line, tables, JSON).
 */
export function createLogger(level: LogLevel, format: LogFormat): Logger {
  const options = { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime };
  if (format === 'json') return pino(options, pino.destination({ dest: 2, sync: true }));
  return pino(options, pino.transport({ target: 'pino-pretty', options: { destination: 2, ignore: 'pid' } }));
}
