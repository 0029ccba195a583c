/** The script by which processes tell each other of pressure; its contract is on top of its text. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from '../redis/scripts.ts';

export const PRESSURE_BOARD = new Script(
  readFileSync(join(import.meta.dirname, 'lua', 'pressure_board.lua'), 'utf8'),
);
