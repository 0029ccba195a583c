// What engine.ts uses of WebAssembly: its types come with those of browsers only.
declare namespace WebAssembly {
  interface Memory {
    readonly buffer: ArrayBuffer;
  }
  class Module {
    private readonly compiled: true;
  }
  class Instance {
    readonly exports: Readonly<Record<string, unknown>>;
    constructor(module: Module, imports: Readonly<Record<string, object>>);
  }
  function compile(bytes: Uint8Array): Promise<Module>;
}
