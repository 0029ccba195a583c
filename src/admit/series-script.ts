/** The script by which gateways tell each other of time series; its contract is on top of lua/series.lua. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from '../redis/scripts.ts';

export const SERIES = new Script(readFileSync(join(import.meta.dirname, 'lua', 'series.lua'), 'utf8'));
