/**
 * The two engines under one interface: `wasm` is build/transcode.wasm, an instance with its own memory per
 * caller; `plain` is the same text run as TypeScript, with one arena for the whole process. Both make the
 * same bytes; the wasm one is about twice as fast, the plain one needs no build and is the reference.
 */
import { readFile } from 'node:fs/promises';
import { Fault, messageOf } from '../base/errors.ts';
import { TENANT_ATTRIBUTE } from '../model/block.ts';
import { TEXT_SLOT } from './codes.ts';
import { doubleText, raise } from './host.ts';

const WASM = new URL('../../build/transcode.wasm', import.meta.url);

export const ENGINES = ['wasm', 'plain'] as const;
export type EngineName = (typeof ENGINES)[number];

/** The words of codes.ts (TEXT_…), in their order. */
const TEXTS = [
  'true', 'false', 'null', 'service.name',
  'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', '0123456789abcdef',
  'Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer',
  'Unset', 'Ok', 'Error', TENANT_ATTRIBUTE,
];

/**
 * The functions of entry.ts, and the memory that their addresses belong to: look at it anew after each call.
 */
export interface Engine {
  readonly calls: typeof import('./entry.ts');
  memory(): Uint8Array;
}

/**
 * A way to make fresh engines: for `wasm` each call gives one with memory of its own, for `plain` always the
 * same.
 * @throws Fault `transcoder_not_built` (not retried) when the wasm module isn't there or is no such module.
 */
export async function loadEngine(name: EngineName, wasm: URL = WASM): Promise<() => Engine> {
  return name === 'wasm' ? loadWasm(wasm) : loadPlain();
}

function writeTexts(engine: Engine): Engine {
  const at = engine.calls.texts() >>> 0;
  TEXTS.forEach((text, slot) => {
    engine.memory().set([text.length, ...Buffer.from(text)], at + slot * TEXT_SLOT);
  });
  return engine;
}

async function loadPlain(): Promise<() => Engine> {
  const [calls, { arena }] = await Promise.all([import('./entry.ts'), import('./memory.ts')]);
  const engine = writeTexts({ calls, memory: arena });
  return () => engine;
}

async function compile(wasm: URL): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(await readFile(wasm));
  } catch (error) {
    const message = `the transcoder can't be loaded: 'npm run build' makes it (${messageOf(error)})`;
    throw new Fault('transcoder_not_built', 'never', message, { cause: error });
  }
}

async function loadWasm(wasm: URL): Promise<() => Engine> {
  const module = await compile(wasm);
  return () => instantiate(module);
}

function instantiate(module: WebAssembly.Module): Engine {
  // A view goes stale whenever the memory grows: in the middle of a call, too.
  let bytes = new Uint8Array();
  const view = () => {
    if (bytes.buffer !== memory.buffer) bytes = new Uint8Array(memory.buffer);
    return bytes;
  };
  const host = {
    fail: raise,
    double: (to: number, value: number) => {
      const text = doubleText(value);
      const target = view();
      for (let i = 0; i < text.length; i++) target[(to >>> 0) + i] = text.charCodeAt(i);
      return text.length;
    },
  };
  const { exports } = new WebAssembly.Instance(module, { host });
  const memory = exports['memory'] as WebAssembly.Memory;
  return writeTexts({ calls: exports as unknown as Engine['calls'], memory: view });
}
