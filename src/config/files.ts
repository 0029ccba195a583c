/**
 * The files that settings are read from: the YAML file in SLUICE_CONFIG, and those whose whole text is the
 * value of one setting. No message that is made here repeats anything of what stands in them.
 */
import { readFileSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { LineCounter, parseDocument } from 'yaml';
import { ConfigurationError, messageOf } from '../base/errors.ts';

/** Gives the text of a file, or throws an Error that says why it can't be had. */
export type ReadText = (path: string) => string;
/** Of each file its text, or why it can't be had. */
export type Texts = ReadonlyMap<string, string | Error>;

const FILE_BYTES_MAX = 16 * 2 ** 20;

export function readText(path: string): string {
  provePlain(statSync(path));
  return readFileSync(path, 'utf8');
}

export function readTexts(paths: Iterable<string>): Texts {
  return new Map([...paths].map((path) => [path, attempt(() => readText(path))]));
}

/** The same without holding anybody up, for files that may lie on a slow mount. Never rejects. */
export async function readTextsLater(paths: Iterable<string>): Promise<Texts> {
  const texts = new Map<string, string | Error>();
  for (const path of paths) {
    try {
      provePlain(await stat(path));
      texts.set(path, await readFile(path, 'utf8'));
    } catch (error) {
      texts.set(path, asError(error));
    }
  }
  return texts;
}

/** Whether nothing has changed from one look to the next. */
export function areSame(some: Texts, others: Texts): boolean {
  const known = (text: string | Error | undefined) =>
    text instanceof Error ? `!${text.message}` : `=${text}`;
  return [...some].every(([path, text]) => known(text) === known(others.get(path)));
}

export function readerOf(texts: Texts): ReadText {
  return (path) => {
    const text = texts.get(path) ?? attempt(() => readText(path));
    if (text instanceof Error) throw text;
    return text;
  };
}

/** A pipe can be read once only, and a folder not at all. */
function provePlain(file: { isFile(): boolean; readonly size: number }): void {
  if (!file.isFile()) throw new Error('it is no regular file');
  if (file.size > FILE_BYTES_MAX) throw new Error(`it has ${file.size} bytes; at most ${FILE_BYTES_MAX}`);
}

function attempt(read: () => string): string | Error {
  try {
    return read();
  } catch (error) {
    return asError(error);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** The value of a setting that lies in a file of its own. @throws ConfigurationError */
export function readSecret(name: string, path: string, read: ReadText): string {
  const text = reading(name, path, read).trim();
  // An empty one is a mistake, and would open what it should close.
  if (text === '') throw new ConfigurationError(`${name}: ${path} is empty; wanted: a file with the value`);
  return text;
}

/** The tree in the YAML file. @throws ConfigurationError */
export function readYaml(path: string, read: ReadText): unknown {
  const lines = new LineCounter();
  const text = reading('SLUICE_CONFIG', path, read);
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const refuse = (why: string) => new ConfigurationError(`SLUICE_CONFIG: ${path} can't be read: ${why}`);
  const [error] = document.errors;
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0]);
    // The parser's own words repeat the line, and with it the password in it.
    throw refuse(`no YAML in line ${line}, column ${col} (${error.code.toLowerCase().replaceAll('_', ' ')})`);
  }
  try {
    return document.toJS();
  } catch (cause) {
    if (cause instanceof ReferenceError)
      throw refuse('an alias (*) in it has no anchor, or there are too many');
    throw cause;
  }
}

function reading(name: string, path: string, read: ReadText): string {
  try {
    return read(path);
  } catch (error) {
    throw new ConfigurationError(`${name}: ${path} can't be read: ${messageOf(error)}`);
  }
}
