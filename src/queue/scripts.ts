/** The scripts that change the queue's state in Redis: each change is one of them, with its contract on top of its text. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from '../redis/scripts.ts';

function load(...names: string[]): Script {
  return new Script(names.map((name) => readFileSync(join(import.meta.dirname, 'lua', `${name}.lua`), 'utf8')).join('\n'));
}

export const SCRIPTS = {
  append: load('common', 'append'),
  sealDue: load('common', 'seal_due'),
  finish: load('finish'),
  bury: load('bury'),
  orphans: load('orphans'),
  counts: load('counts'),
};
