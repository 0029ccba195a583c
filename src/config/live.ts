/**
 * The settings while the program runs: read again when a file that they come from changes, on a signal, or
 * when somebody asks. What is wrong is refused as a whole, and what was in use stays in use.
 *
 * The files' texts are compared, not their times: a ConfigMap is a link that is swapped, and its files' times
 * say little. A text counts once two looks in a row have found it, since a file that is being written is
 * shorter for a moment, and shorter can mean fewer rules.
 */
import { isDeepStrictEqual } from 'node:util';
import { ConfigurationError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { type Texts, areSame, readTexts, readTextsLater, readerOf } from './files.ts';
import { LIVE_KEYS } from './live-keys.ts';
import { type Environment, type Loaded, type Setting, assemble, loadSettings, namedFiles } from './load.ts';
import type { Settings } from './settings.ts';
import { checkTogether } from './together.ts';

export interface ReloadReport {
  /** `unchanged` also where everything that has changed needs a restart. */
  readonly outcome: 'applied' | 'unchanged' | 'refused';
  /** Keys that are in use with another value now. */
  readonly changed: readonly string[];
  /** Keys that differ from those of the start and take effect at the next one. */
  readonly needsRestart: readonly string[];
  /** Of `refused`: what is wrong. */
  readonly error?: string;
}

export type ChangeListener = (settings: Settings, changedKeys: ReadonlySet<string>) => void;

export interface LiveOptions {
  readonly loaded: Loaded;
  /** Those in use: what was loaded, with what the program has put in its place (`up`). */
  readonly settings: Settings;
  /** What `loaded` was loaded from. */
  readonly environment: Environment;
  readonly logger: Logger;
  /** Told of every reload, after the listeners. */
  readonly onReload: (report: ReloadReport) => void;
  /** Between the two looks that have to agree. */
  readonly settleMs?: number;
}

const SETTLE_MS = 200;

export class LiveSettings {
  readonly #options: LiveOptions;
  readonly #paths: readonly string[];
  readonly #listeners: ChangeListener[] = [];
  #current: Settings;
  #needsRestart: readonly string[] = [];
  /** What the last reload was made from. */
  #texts: Texts;
  /** What those in use were made from. */
  #good: Texts;
  /** What was seen since and has to be seen again. */
  #candidate: Texts | undefined;
  #timer: NodeJS.Timeout | undefined;
  #watching = false;

  constructor(options: LiveOptions) {
    this.#options = options;
    this.#paths = namedFiles(options.environment);
    this.#current = options.settings;
    this.#texts = options.loaded.texts;
    this.#good = options.loaded.texts;
  }

  /** A reload makes new ones; what was handed out is never changed. */
  get current(): Settings {
    return this.#current;
  }

  /** In the order in which they were added; a listener must not throw. */
  onChange(listener: ChangeListener): void {
    this.#listeners.push(listener);
  }

  /** Reads everything again, at once. */
  reload(): ReloadReport {
    return this.#take(readTexts(this.#paths));
  }

  /** Looks at the files every `config.pollMs` from now on; not at all where that is 0 or there are none. */
  start(): void {
    this.#watching = this.#current.config.pollMs > 0 && this.#paths.length > 0;
    this.#plan(this.#current.config.pollMs);
  }

  stop(): void {
    this.#watching = false;
    clearTimeout(this.#timer);
  }

  #plan(afterMs: number): void {
    if (!this.#watching) return;
    this.#timer = setTimeout(() => void this.#look(), afterMs);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const { pollMs } = this.#current.config;
    const texts = await readTextsLater(this.#paths);
    if (!this.#watching) return;
    const candidate = this.#candidate;
    this.#candidate = undefined;
    if (areSame(texts, this.#texts)) return this.#plan(pollMs);
    if (candidate === undefined || !areSame(texts, candidate)) {
      this.#candidate = texts;
      return this.#plan(Math.min(this.#options.settleMs ?? SETTLE_MS, pollMs));
    }
    this.#take(texts);
    this.#plan(pollMs);
  }

  #take(texts: Texts): ReloadReport {
    this.#texts = texts;
    const report = this.#apply(texts);
    if (report.outcome !== 'refused') this.#good = texts;
    this.#say(report);
    this.#options.onReload(report);
    return report;
  }

  #apply(texts: Texts): ReloadReport {
    let list: readonly Setting[];
    let next: Settings;
    try {
      refuseEmptied(texts, this.#good);
      ({ list } = loadSettings(this.#options.environment, readerOf(texts)));
      next = this.#merge(list);
      // Together with those of the start, too, that don't change before the next one.
      checkTogether(next);
    } catch (error) {
      if (!(error instanceof ConfigurationError)) throw error;
      return { outcome: 'refused', changed: [], needsRestart: this.#needsRestart, error: error.message };
    }
    const changed = list
      .filter(({ definition, value }) => isLive(definition.key) && !this.#has(definition.key, value))
      .map(({ definition }) => definition.key);
    this.#needsRestart = this.#changedSinceStart(list);
    if (changed.length === 0) return { outcome: 'unchanged', changed, needsRestart: this.#needsRestart };
    this.#current = next;
    const keys = new Set(changed);
    for (const listener of this.#listeners) listener(next, keys);
    return { outcome: 'applied', changed, needsRestart: this.#needsRestart };
  }

  /** The live ones as they are now, the others as they were at the start. */
  #merge(list: readonly Setting[]): Settings {
    return assemble(
      list.map(({ definition: { key }, value }) => [key, isLive(key) ? value : valueAt(this.#current, key)]),
    );
  }

  #has(key: string, value: unknown): boolean {
    return isDeepStrictEqual(valueAt(this.#current, key), value);
  }

  #changedSinceStart(list: readonly Setting[]): readonly string[] {
    const { loaded } = this.#options;
    return list
      .filter(({ definition, value }, i) => {
        return !isLive(definition.key) && !isDeepStrictEqual(loaded.list[i]?.value, value);
      })
      .map(({ definition }) => definition.key);
  }

  #say({ outcome, changed, needsRestart, error }: ReloadReport): void {
    const { logger } = this.#options;
    if (outcome === 'refused') {
      logger.error({ reason: error }, 'the settings were read again and are refused; the old ones stay');
      return;
    }
    if (outcome === 'applied') logger.info({ changed }, 'settings have changed');
    if (needsRestart.length > 0) logger.warn({ needsRestart }, 'settings have changed that need a restart');
  }
}

function isLive(key: string): boolean {
  return LIVE_KEYS.has(key);
}

function valueAt(settings: Settings, key: string): unknown {
  return key.split('.').reduce((node, name) => (node as Record<string, unknown>)[name], settings as unknown);
}

/**
 * At the start an empty file is one without settings. Later it is what a full disk, or whoever was writing
 * it, has left, and would take all limits and tenants away.
 */
function refuseEmptied(texts: Texts, before: Texts): void {
  for (const [path, text] of texts) {
    if (!isEmpty(text) || isEmpty(before.get(path))) continue;
    throw new ConfigurationError(`${path} is empty now; wanted: the settings, or {} for none`);
  }
}

function isEmpty(text: string | Error | undefined): boolean {
  return typeof text === 'string' && text.trim() === '';
}
