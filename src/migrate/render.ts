/**
 * From the one text of a step to the statement for a topology and a server. Pure: the golden files in
 * test/golden hold what it gives for each topology.
 *
 * Conditions are lines of their own: `-- @if <condition>`, `-- @else`, `-- @end`; they may nest. A step of
 * which nothing is left isn't run.
 */
import { ConfigurationError } from '../base/errors.ts';
import { type Migration, type Step, type StepCost, type StepKind, isCondition } from './migration.ts';
import { type RenderContext, fillPlaceholders } from './placeholders.ts';

export interface Statement {
  readonly kind: StepKind;
  readonly cost: StepCost;
  readonly sql: string;
}

/** @throws ConfigurationError naming file and line of a condition that isn't understood. */
export function renderMigration(migration: Migration, context: RenderContext): Statement[] {
  const steps = migration.steps.filter(
    (step) => step.kind !== 'distributed' || context.cluster !== undefined,
  );
  return steps.flatMap(({ kind, cost, ...step }) => {
    const sql = render({ kind, cost, ...step }, migration.name, context);
    return sql === '' ? [] : [{ kind, cost, sql }];
  });
}

/** The statement of one step, without a semicolon; empty when its conditions leave nothing. */
export function render(step: Step, name: string, context: RenderContext): string {
  const lines = choose(step, name, context);
  const filled = fillPlaceholders(lines.join('\n'), context).split('\n');
  return filled
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .join('\n');
}

/** The lines whose conditions hold. */
function choose(step: Step, name: string, context: RenderContext): string[] {
  const wrong = (problem: string) => new ConfigurationError(`${name}, step in line ${step.line}: ${problem}`);
  const open: { holds: boolean; elseSeen: boolean }[] = [];
  const chosen: string[] = [];
  for (const line of step.text.split('\n')) {
    const [, word, rest = ''] = /^\s*-- @(if|else|end)\b\s*(.*)$/.exec(line) ?? [];
    const innermost = open.at(-1);
    if (!isCondition(line)) {
      if (open.every(({ holds }) => holds)) chosen.push(line);
    } else if (word === 'if') {
      const holds = evaluate(rest, context);
      if (holds === undefined) {
        throw wrong(
          `"-- @if ${rest}" isn't understood: wanted is "server >= 26.2", "server < 26.2", ` +
            '"setting <name of a MergeTree setting>", "cluster" or "replicated"',
        );
      }
      open.push({ holds, elseSeen: false });
    } else if (innermost === undefined || (word === 'else' && innermost.elseSeen)) {
      throw wrong(`"-- @${word}" has no "-- @if"`);
    } else if (word === 'else') {
      open[open.length - 1] = { holds: !innermost.holds, elseSeen: true };
    } else {
      open.pop();
    }
  }
  if (open.length > 0) throw wrong('an "-- @if" has no "-- @end"');
  return chosen;
}

/** Undefined when the condition isn't one. */
function evaluate(condition: string, context: RenderContext): boolean | undefined {
  if (condition === 'cluster') return context.cluster !== undefined;
  if (condition === 'replicated') return context.replicated;
  const [, setting] = /^setting ([a-z0-9_]+)$/.exec(condition) ?? [];
  if (setting !== undefined) return context.server.hasMergeTreeSetting(setting);
  const [, operator, major, minor] = /^server (>=|<) (\d+)\.(\d+)$/.exec(condition) ?? [];
  if (operator === undefined) return undefined;
  const { version } = context.server;
  const reached = version.major - Number(major) || version.minor - Number(minor);
  return operator === '>=' ? reached >= 0 : reached < 0;
}
