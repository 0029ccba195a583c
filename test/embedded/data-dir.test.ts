// Goal: the data folder is created, refused with figures when it lacks room or rights, and never shared by
// two instances; the lock of a killed instance is free at once.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/errors.ts';
import { openDataDir } from '../../src/embedded/data-dir.ts';
import { withTempDir } from '../support/services.ts';

const HOLDER = fileURLToPath(new URL('./hold-data-dir.ts', import.meta.url));

describe('openDataDir', () => {
  test('creates the folder, with the folders above it', () =>
    withTempDir((dir) => {
      const path = join(dir, 'a', 'b');
      const held = openDataDir(path, 0);
      expect(held.path).toBe(path);
      expect(existsSync(path)).toBe(true);
      held.release();
    }));

  test('refuses a second instance with the pid of the first, until that lets go', () =>
    withTempDir((dir) => {
      const held = openDataDir(dir, 0);
      expect(() => openDataDir(dir, 0)).toThrow(
        new RegExp(`in use by another sluice \\(pid ${process.pid}\\)`),
      );
      expect(() => openDataDir(dir, 0)).toThrow('SLUICE_DATA_DIR');
      held.release();
      held.release();
      openDataDir(dir, 0).release();
    }));

  test('is free at once when its holder was killed with -9', () =>
    withTempDir(async (dir) => {
      const holder = spawn(process.execPath, [HOLDER, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(holder.stdout, 'data');
      expect(() => openDataDir(dir, 0)).toThrow(`pid ${holder.pid}`);
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      const held = openDataDir(dir, 0);
      expect(readFileSync(join(dir, 'lock'), 'utf8')).toBe(`${process.pid}\n`);
      held.release();
    }));

  test('refuses a folder that cannot be made', () =>
    withTempDir((dir) => {
      writeFileSync(join(dir, 'file'), '');
      expect(() => openDataDir(join(dir, 'file', 'data'), 0)).toThrow(ConfigurationError);
      expect(() => openDataDir(join(dir, 'file', 'data'), 0)).toThrow(
        /can't be written to .*set SLUICE_DATA_DIR/,
      );
    }));

  test('refuses a disk without room, naming both figures and the setting, and lets go of the folder', () =>
    withTempDir((dir) => {
      expect(() => openDataDir(dir, 1e15)).toThrow(
        /has \d+ MiB free, wanted are 953674317 MiB: .*SLUICE_EMBEDDED_DISK_FREE_BYTES_MIN/,
      );
      openDataDir(dir, 0).release();
    }));
});
