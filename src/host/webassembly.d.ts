/** The part of the JavaScript WebAssembly API that is used here; Node's types leave it out. */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: ArrayBufferView<ArrayBuffer>);
    private readonly __module;
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
