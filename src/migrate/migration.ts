/**
 * What a migration is: a file of steps, each one statement for every topology. docs/migrations.md explains
 * the format. In: the text of a file. Out: its steps and its checksum, or a ConfigurationError that names
 * file, line and remedy.
 */
import { createHash } from 'node:crypto';
import { ConfigurationError } from '../base/errors.ts';
import { placeholderError } from './placeholders.ts';

/**
 * Where a step runs: `local` and `view` on every host, `distributed` only where there is a cluster. Within
 * a migration they come in this order, since a Distributed table is declared like its local one, and a view
 * reads tables that exist.
 */
export const STEP_KINDS = ['local', 'distributed', 'view'] as const;
export type StepKind = (typeof STEP_KINDS)[number];

/** What a step costs: metadata only, data written anew (a mutation), or data lost. */
export const STEP_COSTS = ['instant', 'rewrites', 'drops'] as const;
export type StepCost = (typeof STEP_COSTS)[number];

/**
 * Whose history a migration belongs to: the program's own `sql/`, or the operator's folder. Each counts for
 * itself.
 */
export const ORIGINS = ['sluice', 'own'] as const;
export type Origin = (typeof ORIGINS)[number];

export interface Step {
  readonly kind: StepKind;
  readonly cost: StepCost;
  /** One statement with conditions and placeholders, without the final semicolon. */
  readonly text: string;
  /** Of its `-- @step`, from 1. */
  readonly line: number;
}

export interface Migration {
  readonly origin: Origin;
  readonly number: number;
  /** The file's name, `0001_traces.sql`. */
  readonly name: string;
  /** SHA-256 in hex of what is run: comments, line ends and blanks at the end of lines don't count. */
  readonly checksum: string;
  readonly steps: readonly Step[];
}

const STEP_LINE = /^-- @step\b(.*)$/;
const DDL = /^\s*(CREATE|ALTER|DROP|RENAME|TRUNCATE|EXCHANGE|OPTIMIZE)\b/i;
const CREATES = /^\s*CREATE\b(?!.*\bIF\s+NOT\s+EXISTS\b)/i;
const DROPS_OBJECT = /^\s*DROP\b(?!.*\bIF\s+EXISTS\b)/i;
const EXCHANGES = /^\s*EXCHANGE\b/i;
const LOSES_DATA = new RegExp(
  [
    /^\s*(DROP\s+(TABLE|DATABASE)|TRUNCATE|DELETE\s+FROM|CREATE\s+OR\s+REPLACE\s+TABLE)\b/,
    /\bDROP\s+(COLUMN|PARTITION|PART)\b|\bCLEAR\s+COLUMN\b|\bREPLACE\s+PARTITION\b|\bDELETE\s+WHERE\b/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'i',
);

/** @throws ConfigurationError naming the file, the line and what is wanted. */
export function parseMigration(origin: Origin, number: number, name: string, text: string): Migration {
  const steps: Step[] = [];
  let open: { kind: StepKind; cost: StepCost; line: number; lines: string[] } | undefined;
  const close = () => {
    if (open) steps.push(finish(name, open));
  };
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trimEnd();
    const directive = STEP_LINE.exec(line);
    if (directive) {
      close();
      open = { ...parseStepLine(name, index + 1, directive[1] ?? ''), line: index + 1, lines: [] };
    } else if (!isCommentOrEmpty(line)) {
      if (!open) throw wrong(name, index + 1, 'a statement stands before the first "-- @step" line');
      open.lines.push(line);
    }
  }
  close();
  if (steps.length === 0)
    throw wrong(name, 1, 'no step: each begins with a line like "-- @step local instant"');
  checkOrder(name, steps);
  const hash = createHash('sha256');
  for (const step of steps) hash.update(`${step.kind} ${step.cost}\n${step.text}\n;\n`);
  return { origin, number, name, checksum: hash.digest('hex'), steps };
}

export function isCondition(line: string): boolean {
  return /^\s*-- @(if|else|end)\b/.test(line);
}

function isCommentOrEmpty(line: string): boolean {
  return line === '' || (line.trimStart().startsWith('--') && !isCondition(line));
}

function parseStepLine(name: string, line: number, words: string): { kind: StepKind; cost: StepCost } {
  const [kindWord, costWord, ...rest] = words.trim().split(/\s+/);
  const kind = STEP_KINDS.find((known) => known === kindWord);
  const cost = STEP_COSTS.find((known) => known === costWord);
  if (kind === undefined || cost === undefined || rest.length > 0) {
    throw wrong(
      name,
      line,
      `"-- @step${words}" isn't understood: wanted is "-- @step <where> <cost>" with ` +
        `where ${STEP_KINDS.join(', ')} and cost ${STEP_COSTS.join(', ')}`,
    );
  }
  return { kind, cost };
}

function finish(name: string, open: { kind: StepKind; cost: StepCost; line: number; lines: string[] }): Step {
  const text = open.lines.join('\n').replace(/;$/, '').trimEnd();
  const step = { kind: open.kind, cost: open.cost, line: open.line, text };
  // What is checked is the statement itself: a condition may stand before it, and it may span lines.
  const statement = open.lines
    .filter((line) => !isCondition(line))
    .join(' ')
    .trim();
  const problem = stepProblem(step, statement) ?? placeholderError(text);
  if (problem !== undefined) throw wrong(name, open.line, problem);
  return step;
}

function stepProblem(step: Step, statement: string): string | undefined {
  if (statement === '') return 'the step has no statement';
  if (DDL.test(statement) && !statement.includes('{on_cluster}')) {
    return 'the statement needs {on_cluster} after the name of its table, where ON CLUSTER belongs';
  }
  if (CREATES.test(statement))
    return 'CREATE needs IF NOT EXISTS: after an interruption the step is run again';
  if (DROPS_OBJECT.test(statement))
    return 'DROP needs IF EXISTS: after an interruption the step is run again';
  if (EXCHANGES.test(statement)) {
    return (
      'EXCHANGE can not be told from its opposite after an interruption: write ' +
      'RENAME TABLE a TO a_old, b TO a'
    );
  }
  if (LOSES_DATA.test(statement) && step.cost !== 'drops') {
    return `the step loses data but is declared "${step.cost}": declare it "drops"`;
  }
  return undefined;
}

function checkOrder(name: string, steps: readonly Step[]): void {
  for (const [index, step] of steps.entries()) {
    const before = steps[index - 1];
    if (before && STEP_KINDS.indexOf(step.kind) < STEP_KINDS.indexOf(before.kind)) {
      throw wrong(
        name,
        step.line,
        `a ${step.kind} step comes after a ${before.kind} step: within a migration the order ` +
          `is ${STEP_KINDS.join(', ')}; what has to come later belongs into a further migration`,
      );
    }
  }
}

function wrong(name: string, line: number, problem: string): ConfigurationError {
  return new ConfigurationError(`${name}, line ${line}: ${problem}`);
}
