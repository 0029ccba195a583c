/**
 * Three ways to say no, never mixed: expected refusals are values, faults of the world are a Fault, our own
 * mistakes an assert.
 */

/** What may be done about a fault: the same call again here, the same elsewhere, or nothing. */
export type Retry = 'here' | 'elsewhere' | 'never';

/** A fault of the world (Redis, ClickHouse, disk, network), made where it is known what it is. */
export class Fault extends Error {
  readonly code: string;
  readonly retry: Retry;
  constructor(code: string, retry: Retry, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'Fault';
    this.code = code;
    this.retry = retry;
  }
}

/** Something the operator has to mend before a start makes sense: ends the program with exit code 2. */
export class ConfigurationError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConfigurationError';
  }
}

/** Our own mistake if it fails. Never used for input. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
