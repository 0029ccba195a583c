/** Live settings for parts that are built in a test: nothing is watched, `reload` reads what is given. */
import { LiveSettings } from '../../src/config/live.ts';
import { type Environment, loadSettings } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';
import { silent } from './services.ts';

/** @param settings those in use, where they aren't what the environment says */
export function liveOf(settings?: Settings, environment: Environment = {}): LiveSettings {
  const loaded = loadSettings(environment);
  return new LiveSettings({
    loaded,
    settings: settings ?? loaded.settings,
    environment,
    logger: silent,
    onReload: () => {},
  });
}
