/** Where a compile writes, what lies there already, and everything that it writes: files and hit. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { canTorture, createTorture, has, type Torture } from "./torture.contract.ts";

let on: Torture;
beforeAll(async () => {
  if (canTorture) on = await createTorture();
});
afterAll(() => on?.close());
afterEach(() => on?.startAnew());

const compilers = canTorture ? ["gcc", ...(has("clang") ? ["clang"] : [])] : [];

describe.each(compilers)("with %s,", (cc) => {
  const source = async (): Promise<void> => {
    on.write("a.c", '#include "x.h"\nint f(int a) { return a > X; }\n');
    on.write("x.h", "#define X 1\n");
    await on.settle();
  };

  describe("dependency files are those of the compiler:", () => {
    test.each([
      ["-MD", ["a.d"]],
      ["-MMD", ["a.d"]],
      ["-MD -MF deps", ["deps"]],
      ["-MMD -MP -MF sub/deps.d -MT 'o t.o' -MQ 'o q$.o'", ["sub/deps.d"]],
      ["-Wp,-MD,deps -Wp,-MT,t.o", ["deps"]],
      ["-MD -o sub/o.obj", ["sub/o.d"]],
    ])("%s", async (flags, files) => {
      on.write("sub/o", "");
      await source();
      const line = `$CC -c a.c -include stddef.h ${flags}`;
      const made = await on.miss(line, { cc });
      expect(Object.keys(made.files)).toEqual(expect.arrayContaining(files));
      const found = await on.hit(line, { cc });
      for (const file of files) expect(found.files[file]).toBe(undefined);
      for (const file of files) rmSync(on.at(file));
      expect(Object.keys((await on.hit(line, { cc })).files)).toEqual(files);
    });
  });

  test.each([
    ["-g -gsplit-dwarf", ["a.dwo", "a.o"]],
    ["--coverage -frandom-seed=1", ["a.gcno", "a.o"]],
    [
      "-g -gsplit-dwarf --coverage -frandom-seed=1 -MD -o sub/b.o",
      ["b.d", "b.dwo", "b.gcno", "b.o"],
    ],
  ])("what comes beside the object: %s", async (flags, files) => {
    on.write("sub/o", "");
    await source();
    const line = `$CC -c a.c ${flags}`;
    const written = (left: object): string[] =>
      Object.keys(left)
        .map((name) => name.replace("sub/", ""))
        .sort();
    expect(written((await on.miss(line, { cc })).files)).toEqual(files);
    for (const name of ["", "sub/"].flatMap((folder) => files.map((file) => `${folder}${file}`)))
      rmSync(on.at(name), { force: true });
    expect(written((await on.hit(line, { cc })).files)).toEqual(files);
  });

  test("notes of coverage belong to their object, whose stamp GCC draws by chance", async () => {
    await source();
    const made = await on.compile("$CC --coverage -c a.c", { cc });
    expect(made).toMatchObject({ code: 0, source: "here", kept: undefined });
    expect(Object.keys(made.files).sort()).toEqual(["a.gcno", "a.o"]);
    for (const name of ["a.gcno", "a.o"]) rmSync(on.at(name));
    const found = await on.compile("$CC --coverage -c a.c", { cc });
    expect(found).toMatchObject({ code: 0, source: "cached-here", files: made.files });
  });

  test("one source has two outputs, in this folder and in another", async () => {
    on.write("sub/o", "");
    await source();
    const lines = ["$CC -c a.c -o a.o", "$CC -c a.c -o b.o", "$CC -c a.c -o sub/a.o"];
    for (const line of lines) await on.miss(line, { cc });
    for (const line of lines) await on.hit(line, { cc });
    on.write("x.h", "#define X 2\n");
    await on.settle();
    for (const line of lines) await on.miss(line, { cc });
  });

  test("several sources in one command", async () => {
    on.write("b.c", "int g;\n");
    await source();
    const made = await on.miss("$CC -c a.c b.c", { cc });
    expect(Object.keys(made.files)).toEqual(["a.o", "b.o"]);
    rmSync(on.at("a.o"));
    await on.hit("$CC -c a.c b.c", { cc });
  });

  test("the output's folder comes and goes", async () => {
    await source();
    const line = "$CC -c a.c -o sub/a.o";
    expect(await on.same(line, { cc })).toMatchObject({ code: 1, source: "here" });
    mkdirSync(on.at("sub"));
    await on.miss(line, { cc });
    rmSync(on.at("sub"), { recursive: true });
    expect(await on.same(line, { cc })).toMatchObject({ code: 1, source: "here" });
    mkdirSync(on.at("sub"));
    await on.hit(line, { cc });
  });

  test("an output that is there already is replaced, whatever its mode", async () => {
    await source();
    await on.miss("$CC -c a.c", { cc });
    for (const mode of [0o600, 0o755]) {
      on.write("a.o", "old");
      chmodSync(on.at("a.o"), mode);
      await on.compile("$CC -c a.c", { cc });
      expect(readFileSync(on.at("a.o")).toString("latin1", 1, 4)).toBe("ELF");
    }
    on.write("a.o", "old");
    chmodSync(on.at("a.o"), 0o444);
    expect(await on.compile("$CC -c a.c", { cc })).toMatchObject({ source: "here" });
  });

  test("the umask of whoever compiles is honoured", async () => {
    await source();
    const line = (umask: string): string => `umask ${umask}; exec $CC -c a.c -MD`;
    await on.miss(line("022"), { cc });
    for (const umask of ["077", "000", "027"]) {
      for (const name of ["a.o", "a.d"]) rmSync(on.at(name));
      const found = await on.hit(line(umask), { cc });
      expect(found.files["a.o"]?.slice(0, 3)).toBe(
        (0o666 & ~Number.parseInt(umask, 8)).toString(8),
      );
    }
  });

  test("the output has a second name, which keeps what it had", async () => {
    await source();
    await on.miss("$CC -c a.c", { cc });
    const before = readFileSync(on.at("a.o"));
    linkSync(on.at("a.o"), on.at("second.o"));
    on.write("x.h", "#define X 2\n");
    await on.settle();
    await on.compile("$CC -c a.c", { cc });
    on.write("x.h", "#define X 1\n");
    await on.hit("$CC -c a.c", { cc });
    expect(readFileSync(on.at("second.o"))).toEqual(before);
    // Neither is the store's own.
    on.write("a.o", "scribble");
    on.write("second.o", "scribble");
    await on.hit("$CC -c a.c", { cc });
  });

  test("the output is a link, to a file and to nowhere", async () => {
    await source();
    await on.miss("$CC -c a.c -o b.o", { cc });
    for (const target of ["there.o", "nowhere/x.o"]) {
      rmSync(on.at("b.o"), { force: true });
      on.write("there.o", "old");
      symlinkSync(target, on.at("b.o"));
      const left = await on.compile("$CC -c a.c -o b.o", { cc });
      const whyHere = expect.stringMatching(/^output-(special|not-a-file)$/);
      expect(left).toMatchObject({ source: "here", whyHere });
      rmSync(on.at("b.o"), { force: true });
      on.write("there.o", "old");
      symlinkSync(target, on.at("b.o"));
      expect(left).toMatchObject(await on.plain("$CC -c a.c -o b.o", { cc }));
    }
  });

  test("the output is /dev/null", async () => {
    await source();
    for (const _ of [1, 2]) await on.stays("output-special", "$CC -c a.c -o /dev/null", { cc });
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  });

  test("the output, or the dependency file, is a queue", async () => {
    await source();
    expect(spawnSync("mkfifo", [on.at("queue")]).status).toBe(0);
    const read = (command: string): string =>
      `cat queue >got & ${command}; code=$?; wait; exit $code`;
    for (const command of ["$CC -S a.c -o queue", "$CC -c a.c -o b.o -MD -MF queue"])
      for (const _ of [1, 2]) {
        const left = await on.stays("output-special", read(command), { cc });
        rmSync(on.at("got"));
        expect(left.files.got?.length).toBeGreaterThan(10);
      }
  });

  test("the output is stdout", async () => {
    await source();
    for (const _ of [1, 2]) {
      const { stdout } = await on.stays("stdout", "$CC -S a.c -o -", { cc });
      expect(stdout).toContain(".text");
    }
  });

  test("the output's folder cannot be written to", async () => {
    mkdirSync(on.at("sub"));
    await source();
    const line = "$CC -c a.c -o sub/a.o";
    await on.miss(line, { cc });
    rmSync(on.at("sub/a.o"));
    if (!setReadOnly(on.at("sub"), true)) return;
    try {
      expect(await on.same(line, { cc })).toMatchObject({ code: 1, source: "here" });
    } finally {
      setReadOnly(on.at("sub"), false);
    }
    await on.hit(line, { cc });
  });

  test("the object is changed right after the compile", async () => {
    on.write("a.c", `char x[${20 << 20}] = { 1 };\n`);
    await on.settle();
    const change = "printf poison | dd of=a.o bs=1 seek=8388608 conv=notrunc status=none";
    const made = await on.compile(`$CC -c a.c && ${change}`, { cc });
    expect(made).toMatchObject({ code: 0, source: "here", kept: undefined });
    expect(readFileSync(on.at("a.o")).includes("poison")).toBe(true);
    rmSync(on.at("a.o"));
    await on.hit("$CC -c a.c", { cc });
    await on.compile(`$CC -c a.c && ${change}`, { cc });
    rmSync(on.at("a.o"));
    await on.hit("$CC -c a.c", { cc });
  });

  test("the object is processed right after the compile", async () => {
    await source();
    const change = "objcopy --add-section .note.x=x.h a.o";
    const made = await on.same(`$CC -c a.c && ${change}`, { cc });
    expect(made).toMatchObject({ code: 0, source: "here", kept: undefined });
    rmSync(on.at("a.o"));
    expect(await on.same(`$CC -c a.c && ${change}`, { cc })).toMatchObject({
      source: "cached-here",
    });
    await on.hit("$CC -c a.c", { cc });
  });

  test("a compile that fails is never kept, and says so every time", async () => {
    on.write("a.c", "int f(void) { return nowhere; }\n");
    await on.settle();
    for (const _ of [1, 2]) {
      const left = await on.stays("exit-code 1", "$CC -c a.c -MD", { cc });
      expect(left).toMatchObject({ code: 1, stderr: expect.stringContaining("nowhere") });
    }
    on.write("a.c", "int f(void) { return 1; }\n");
    await on.settle();
    await on.miss("$CC -c a.c -MD", { cc });
  });

  test("a warning that is an error is one every time", async () => {
    on.write("a.c", "int f(void) { int b; }\n");
    await on.settle();
    await on.miss("$CC -Wall -c a.c", { cc });
    for (const _ of [1, 2]) await on.stays("exit-code 1", "$CC -Wall -Werror -c a.c", { cc });
    await on.hit("$CC -Wall -c a.c", { cc });
  });
});

/** False, and a line, where that is not possible. Permissions alone do not stop the superuser. */
function setReadOnly(folder: string, isReadOnly: boolean): boolean {
  if (process.getuid?.() !== 0) {
    chmodSync(folder, isReadOnly ? 0o555 : 0o755);
    return true;
  }
  const set = spawnSync("sh", ["-c", `chattr ${isReadOnly ? "+" : "-"}i "$1"`, "sh", folder]);
  if (set.status !== 0) console.warn("a folder cannot be made immutable here: a case is skipped");
  return set.status === 0;
}
