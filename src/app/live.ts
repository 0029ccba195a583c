/** The settings of a running role: who has them read again, and what tells of it. */
import type { Logger } from '../base/log.ts';
import { LiveSettings } from '../config/live.ts';
import type { Loaded } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import type { Instruments } from '../metrics/instruments.ts';
import type { Lifecycle } from './lifecycle.ts';

interface LiveContext {
  /** Those in use: what was loaded, with the URLs of what `up` has started. */
  readonly settings: Settings;
  readonly instruments: Pick<Instruments, 'configReloads' | 'configValid' | 'configRestart'>;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
}

/** Watches the files from now on, until the role stops. @param loaded from the environment of this process */
export function startLive(loaded: Loaded, context: LiveContext): LiveSettings {
  const { settings, instruments, logger, lifecycle } = context;
  for (const outcome of ['applied', 'unchanged', 'refused']) instruments.configReloads.inc({ outcome }, 0);
  instruments.configValid.set(1);
  instruments.configRestart.set(0);
  const live = new LiveSettings({
    loaded,
    settings,
    environment: process.env,
    logger,
    onReload: ({ outcome, needsRestart }) => {
      instruments.configReloads.inc({ outcome });
      instruments.configValid.set(outcome === 'refused' ? 0 : 1);
      instruments.configRestart.set(needsRestart.length);
    },
  });
  live.onChange(({ log }) => {
    logger.level = log.level;
  });
  const reload = () => {
    live.reload();
  };
  // A terminal that is closed sends it too, and means the end.
  if (!process.stdin.isTTY) process.on('SIGHUP', reload);
  live.start();
  lifecycle.add('settings', async () => live.stop());
  return live;
}
