/**
 * Builds build/transcode.wasm: the transcoder's sources as AssemblyScript. They are TypeScript and
 * AssemblyScript at once; only the memory differs, so memory.ts is read from memory.as.ts here.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import asc from 'assemblyscript/asc';

const ROOT = resolve(import.meta.dirname, '..');
const TARGET = join('build', 'transcode.wasm');

const OPTIONS = [
  'src/transcode/entry.ts', '--outFile', TARGET, '--baseDir', ROOT,
  // The stub never frees an object of AssemblyScript's: the transcoder's live as long as the instance.
  '-O3', '--noAssert', '--runtime', 'stub', '--use', 'abort=',
  '--enable', 'simd,bulk-memory', '--maximumMemory', '32768',
];

/**
 * asc appends .ts to an import's path, which has it already, and doesn't know imports of types alone. Its
 * decorators are no TypeScript, so they stand in comments: `// @inline` before a function to be inlined.
 */
function readSource(name: string, base: string): string | null {
  const path = join(base, name.replace(/\.ts\.ts$/, '.ts').replace(/(^|\/)memory\.ts$/, '$1memory.as.ts'));
  if (!existsSync(path)) return null;
  return readFileSync(path, 'utf8')
    .replace(/^import type /gm, 'import ')
    .replace(/^( *)\/\/ (@inline|@external\(.*\))$/gm, '$1$2');
}

mkdirSync(join(ROOT, 'build'), { recursive: true });
const { stdout, stderr } = process;
const { error } = await asc.main(OPTIONS, { readFile: readSource, stdout, stderr });
if (error !== null) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
