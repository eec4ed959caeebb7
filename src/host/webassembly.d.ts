/** The part of the JavaScript WebAssembly API that is used here; Node's types leave it out. */
declare namespace WebAssembly {
  interface Module {
    readonly __module: never;
  }
  class Memory {
    readonly buffer: ArrayBuffer;
  }
  class Instance {
    constructor(module: Module, imports: object);
    readonly exports: Readonly<Record<string, unknown>>;
  }
  function validate(bytes: ArrayBufferView<ArrayBuffer>): boolean;
  function compile(bytes: ArrayBufferView<ArrayBuffer>): Promise<Module>;
}
