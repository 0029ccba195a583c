/**
 * What decides whether this process is alive, started and ready: named checks, each with a figure and a
 * limit, so that an operator sees which one fails and by how much.
 */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What was measured, for a person: "connected", "12 MiB", "3 of 4". */
  readonly figure: string;
  /** What it is held against. */
  readonly limit: string;
}

/** Asked at each request, so it must only read what is known already. */
export type CheckSource = () => readonly Check[];

export interface Report {
  readonly status: 'ok' | 'failing';
  readonly checks: readonly Check[];
}

export function report(source: CheckSource): Report {
  const checks = source();
  return { status: checks.every((check) => check.ok) ? 'ok' : 'failing', checks };
}
