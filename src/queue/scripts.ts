/** The scripts of lua/: each change of the queue's state is one of them, with its contract on top. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from '../redis/scripts.ts';

function load(...names: string[]): Script {
  const files = names.map((name) => join(import.meta.dirname, 'lua', `${name}.lua`));
  return new Script(files.map((file) => readFileSync(file, 'utf8')).join('\n'));
}

export const SCRIPTS = {
  append: load('common', 'append'),
  sealDue: load('common', 'seal_due'),
  fence: load('fence'),
  confirm: load('confirm'),
  trace: load('trace'),
  finish: load('finish'),
  notePart: load('note_part'),
  setAside: load('set_aside'),
  revive: load('revive'),
  discard: load('discard'),
  letters: load('letters'),
  lettersOf: load('letters_of'),
  orphans: load('orphans'),
  counts: load('counts'),
  publishRouting: load('publish_routing'),
  resendWindow: load('resend_window'),
};
