/** The course of tasks with real compilers and a real linker: `*.torture.test.ts` has the odd ways. */
import { spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ActionOutcome } from "../action/action.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import type { Digest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { Build, BuildOptions } from "./door.ts";
import { canTorture, createTorture, type Torture } from "./torture.contract.ts";

let on: Torture;
let build: Build | undefined;
beforeAll(async () => {
  if (canTorture) on = await createTorture();
});
afterAll(() => on?.close());
afterEach(() => {
  on?.startAnew();
  build?.close();
  build = undefined;
});

const sharing: BuildOptions = { steal: true, cacheRead: true, cacheWrite: true, compare: false };
const own = { build: "own" };
const line = "$CC -c a.c";

/** Compiles that ask with `own` belong to a build of these options. */
function open(options: Partial<BuildOptions>): Build {
  build?.close();
  build = on.on.door.openBuild("own", { ...sharing, ...options });
  return build;
}

async function write(): Promise<void> {
  on.write("a.c", "int f(void) { int b; return 1; }\n");
  await on.settle();
}

const lastAction = (): Digest => {
  const action = on.on.records.at(-1)?.action;
  if (action === undefined) throw new Error("it was no action");
  return action;
};

const compared = () => on.on.events.filter((it) => it.event === "task-compared");

describe.skipIf(!canTorture)("a build", () => {
  test("that does not read known results compiles, and what it finds is known to others", async () => {
    await write();
    open({ cacheRead: false });
    for (const _ of [1, 2])
      expect(await on.same(line, own)).toMatchObject({ source: "here", kept: undefined });
    await on.hit(line);
    expect(build?.summary()).toMatchObject({ tasks: 2, local: 2, cachedLocal: 0 });
  });

  test("that does not remember results uses known ones, and leaves none", async () => {
    await write();
    open({ cacheWrite: false });
    for (const _ of [1, 2])
      expect(await on.same(line, own)).toMatchObject({ source: "here", kept: "no-cache-write" });
    await on.miss(line);
    expect(await on.same(line, own)).toMatchObject({ source: "cached-here" });
    expect(build?.summary()).toMatchObject({ tasks: 3, local: 2, cachedLocal: 1 });
  });

  test("that does neither does not even plan while nobody could take its tasks", async () => {
    await write();
    await on.miss(line);
    open({ cacheRead: false, cacheWrite: false });
    const ran = await on.same(line, own);
    expect(ran).toMatchObject({ source: "here", whyHere: "no-peers", kept: "not-an-action" });
  });
});

describe.skipIf(!canTorture)("--compare", () => {
  test("says that a known result and the compiler's own are equal", async () => {
    await write();
    await on.miss("$CC -Wall -c a.c -MD");
    open({ compare: true });
    const before = compared().length;
    const found = await on.same("$CC -Wall -c a.c -MD", own);
    expect(found).toMatchObject({ code: 0, source: "cached-here" });
    expect(compared().slice(before)).toMatchObject([{ equal: true, differs: [], label: "a.c" }]);
    expect(build?.summary()).toMatchObject({ compared: 1, differing: 0 });
  });

  test("says where a known result is wrong, and the compiler's own is what the user gets", async () => {
    await write();
    const right = await on.miss(line);
    await on.plain(line);
    const object = readFileSync(on.at("a.o"));
    object.writeUInt8(object.readUInt8(77) ^ 1, 77);
    await plant({ object, stderr: "nonsense\n" });
    open({ compare: true });
    const before = compared().length;
    rmSync(on.at("a.o"));
    const found = await on.same(line, own);
    expect(found.files).toEqual(right.files);
    expect(found.stderr).toBe("");
    const differs = [
      { path: on.at("a.o"), atByte: 77 },
      { path: "stderr", atByte: 0 },
    ];
    expect(compared().slice(before)).toMatchObject([{ equal: false, differs }]);
    expect(build?.summary()).toMatchObject({ compared: 1, differing: 1 });
  });

  test("says that a known result ends too early, or has a file that is not written", async () => {
    await write();
    await on.miss("$CC -c a.c -MD");
    await on.plain("$CC -c a.c -MD");
    const object = readFileSync(on.at("a.o"));
    await plant({ object: object.subarray(0, 100), dependencies: "a.o: b.c\n" });
    open({ compare: true });
    const before = compared().length;
    await on.same("$CC -c a.c -MD", own);
    const [said] = compared().slice(before);
    expect(said).toMatchObject({
      equal: false,
      differs: expect.arrayContaining([
        { path: on.at("a.o"), atByte: 100 },
        { path: on.at("a.d"), atByte: 5 },
      ]),
    });
  });

  interface Planted {
    readonly object: Uint8Array;
    readonly stderr?: string;
    readonly dependencies?: string;
  }

  /** A result that is signed and wrong: what only a broken machine could make. */
  async function plant({ object, stderr = "", dependencies }: Planted): Promise<void> {
    const { store } = on.on.parts;
    const outputs = [
      { path: on.at("a.o"), digest: await store.put(object), executable: false },
      ...(dependencies === undefined
        ? []
        : [{ path: on.at("a.d"), digest: await store.put(utf8(dependencies)), executable: false }]),
    ];
    const said = { stdout: await store.put(utf8("")), stderr: await store.put(utf8(stderr)) };
    const outcome: ActionOutcome = { exitCode: 0, outputs, ...said };
    on.on.results.keep(lastAction(), outcome, 1);
  }
});

describe.skipIf(!canTorture)("a plan", () => {
  test("that only a sandbox can be trusted with is not kept where there is none", async () => {
    on.write("a.S", ".globl f\nf: ret\n");
    await on.settle();
    for (const _ of [1, 2]) await on.stays("not-traceable", "$CC -c a.S");
  });

  test("whose run read something else is not kept, and cleans up", async () => {
    await write();
    let checked = 0;
    const checkHere = async (): Promise<void> => {
      checked += 1;
      throw new MeshError("refused", "link-miss: it read /etc/hostname");
    };
    on.amend = (plan) => ({ ...plan, checkHere });
    for (const _ of [1, 2]) await on.stays("link-miss", line);
    expect(checked).toBe(2);
    // Also after a run that failed.
    on.write("a.c", "nonsense\n");
    await on.settle();
    await on.stays("exit-code 1", line);
    expect(checked).toBe(3);
  });

  test("whose outputs cannot be what they should is not kept", async () => {
    await write();
    const seen: unknown[] = [];
    on.amend = (plan) => ({
      ...plan,
      async check(read) {
        const object = await read(on.at("a.o"));
        seen.push(object && textOf(object.subarray(1, 4)), await read(on.at("none")));
        throw new MeshError("refused", "scanner-miss: it names b.h");
      },
    });
    for (const _ of [1, 2]) await on.stays("scanner-miss", line);
    expect(seen).toEqual(["ELF", undefined, "ELF", undefined]);
  });

  test("that says less than what the compiler writes is not kept", async () => {
    await write();
    on.amend = (plan) => {
      const outputPaths = [...plan.spec.outputPaths, on.at("a.dwo")];
      return { ...plan, spec: { ...plan.spec, outputPaths }, required: outputPaths };
    };
    await on.stays("output-missing", line);
  });
});

describe.skipIf(!canTorture)("links and archives run here, and are known the second time:", () => {
  async function objects(): Promise<void> {
    on.write("main.c", "int f(void);\nint main(void) { return f(); }\n");
    on.write("f.c", "int f(void) { return 7; }\n");
    for (const name of ["main", "f"]) expect((await on.plain(`$CC -c ${name}.c`)).code).toBe(0);
    await on.settle();
  }

  const runs = () => spawnSync(on.at("app")).status;

  test("a program", async () => {
    await objects();
    const link = "$CC main.o f.o -o app";
    expect((await on.miss(link)).whyHere).toBe("link");
    rmSync(on.at("app"));
    const found = await on.hit(link);
    expect(found.files.app).toMatch(/^755 /);
    expect(runs()).toBe(7);
    on.write("f.c", "int f(void) { return 8; }\n");
    expect((await on.plain("$CC -c f.c")).code).toBe(0);
    await on.settle();
    await on.miss(link);
    expect(runs()).toBe(8);
    on.write("f.c", "int f(void) { return 7; }\n");
    expect((await on.plain("$CC -c f.c")).code).toBe(0);
    await on.hit(link);
    expect(runs()).toBe(7);
  });

  test("a program, for a user with another umask", async () => {
    await objects();
    await on.miss("$CC main.o f.o -o app");
    rmSync(on.at("app"));
    const found = await on.hit("umask 077; exec $CC main.o f.o -o app");
    expect(found.files.app).toMatch(/^700 /);
  });

  test("a program that is running", async () => {
    await objects();
    await on.miss("$CC main.o f.o -o app");
    const before = readFileSync(on.at("app"));
    // Were it written over, the store's own copy would change with it.
    chmodSync(on.at("app"), 0o755);
    appendFileSync(on.at("app"), "more");
    await on.hit("$CC main.o f.o -o app");
    expect(readFileSync(on.at("app"))).toEqual(before);
  });

  test("an archive, and a program from it", async () => {
    await objects();
    const archive = "$CC rcs libf.a f.o";
    await on.miss(archive, { cc: "ar" });
    rmSync(on.at("libf.a"));
    await on.hit(archive, { cc: "ar" });
    const link = "$CC main.o -L. -lf -o app";
    await on.settle();
    await on.miss(link);
    await on.hit(link);
    expect(runs()).toBe(7);
    // A shared library that comes to lie before the archive.
    on.write("g.c", "int f(void) { return 9; }\n");
    expect((await on.plain("$CC -shared -fPIC g.c -o libf.so")).code).toBe(0);
    await on.settle();
    await on.miss(`${link} -Wl,-rpath,.`);
    await on.miss(link);
    rmSync(on.at("libf.so"));
    await on.hit(link);
    expect(runs()).toBe(7);
  });

  test("not one that fails", async () => {
    await objects();
    for (const _ of [1, 2]) {
      const left = await on.same("$CC main.o -o app");
      expect(left).toMatchObject({ code: 1, source: "here", kept: "exit-code 1" });
    }
    writeFileSync(on.at("f.o"), "nonsense");
    expect(await on.same("$CC main.o f.o -o app")).toMatchObject({ code: 1, source: "here" });
  });
});
