/** Settings as the program would load them: defaults, and what a test changes. */
import { loadSettings } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';

/** @param environment SLUICE_… variables; those of the test's own process don't count */
export function settingsOf(environment: Readonly<Record<string, string>> = {}): Settings {
  return loadSettings({ ...environment }).settings;
}

export function redisSettings(url: string, changes: Partial<Settings['redis']> = {}): Settings['redis'] {
  return { ...settingsOf().redis, url, ...changes };
}

export function writeSettings(changes: Partial<Settings['write']> = {}): Settings['write'] {
  return { ...settingsOf().write, ...changes };
}
