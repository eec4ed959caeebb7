/** Sources that change while they are compiled, and compilers that are stopped: what is kept. */
import { readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { canTorture, createTorture, has, type Torture } from "./torture.contract.ts";

let on: Torture;
beforeAll(async () => {
  if (canTorture) on = await createTorture();
});
afterAll(() => on?.close());
afterEach(() => on?.startAnew());

const compilers = canTorture ? ["gcc", ...(has("clang") ? ["clang"] : [])] : [];
const hasProc = process.platform === "linux";

describe.each(compilers)("with %s,", (cc) => {
  const line = "$CC -c a.c";
  // Should a test fail, nothing that it has started lives on for long.
  const bounded = `ulimit -t 10; ulimit -v 2000000; ${line}`;

  /** The source and its header are these; and then everything is as it should be. */
  async function settlesAt(n: number, kept: boolean): Promise<void> {
    on.beforeRun = undefined;
    on.afterRun = undefined;
    write(n);
    await on.settle();
    const made = await on.same(line, { cc });
    expect(made).toMatchObject({ code: 0, source: kept ? "cached-here" : "here" });
    await on.hit(line, { cc });
  }

  const write = (n: number): void => {
    on.write("a.c", `#include "x.h"\nint a = ${n}, x = X;\n`);
    on.write("x.h", `#define X ${n}\n`);
  };

  test.each(["a.c", "x.h"])("%s changes before the compiler reads it", async (name) => {
    write(1);
    await on.settle();
    on.beforeRun = () => on.write(name, readFileSync(on.at(name), "utf8").replaceAll("1", "2"));
    const made = await on.compile(line, { cc });
    expect(made).toMatchObject({ code: 0, source: "here", kept: "input-changed" });
    await settlesAt(1, false);
    await settlesAt(2, false);
  });

  test("a header changes, and is as before when the compiler has ended", async () => {
    write(1);
    await on.settle();
    on.beforeRun = () => write(2);
    on.afterRun = () => write(1);
    const made = await on.compile(line, { cc });
    expect(made).toMatchObject({ code: 0, source: "here", kept: "input-changed" });
    await settlesAt(1, false);
    await settlesAt(2, false);
  });

  test("the same, and the old time stamps are brought back", async () => {
    write(1);
    for (const name of ["a.c", "x.h"]) utimesSync(on.at(name), 1e9, 1e9);
    await on.settle();
    on.beforeRun = () => write(2);
    on.afterRun = () => {
      write(1);
      for (const name of ["a.c", "x.h"]) utimesSync(on.at(name), 1e9, 1e9);
    };
    const made = await on.compile(line, { cc });
    expect(made).toMatchObject({ code: 0, source: "here", kept: "input-changed" });
    await settlesAt(1, false);
  });

  test.each([
    ["with", "-MD"],
    ["without", ""],
  ])(
    "a header comes to lie earlier on the path, and is gone when the compiler has ended, %s a dependency file",
    async (_, flags) => {
      on.write("a.c", "#include <x.h>\nint x = X;\n");
      on.write("2/x.h", "#define X 2\n");
      on.write("1/other.h", "");
      await on.settle();
      const searching = `$CC -I1 -I2 ${flags} -c a.c`;
      on.beforeRun = () => on.write("1/x.h", "#define X 1\n");
      on.afterRun = () => rmSync(on.at("1/x.h"));
      const made = await on.compile(searching, { cc });
      expect(made).toMatchObject({ code: 0, source: "here" });
      on.beforeRun = undefined;
      on.afterRun = undefined;
      const next = await on.same(searching, { cc });
      expect(next).toMatchObject({ code: 0, source: "here" });
    },
  );

  test("a header is linked to another, and back when the compiler has ended", async () => {
    on.write("a.c", '#include "way/x.h"\nint x = X;\n');
    for (const n of [1, 2]) on.write(`d${n}/x.h`, `#define X ${n}\n`);
    on.write("d1/o", "");
    const lead = (target: string): void => {
      rmSync(on.at("way"), { force: true });
      symlinkSync(target, on.at("way"));
    };
    lead("d1");
    await on.settle();
    on.beforeRun = () => lead("d2");
    on.afterRun = () => lead("d1");
    const made = await on.compile(line, { cc });
    expect(made).toMatchObject({ code: 0, source: "here" });
    on.beforeRun = undefined;
    on.afterRun = undefined;
    expect(await on.same(line, { cc })).toMatchObject({ code: 0, source: "here" });
  });

  test("a command of the same build writes a header during the compile", async () => {
    write(1);
    await on.settle();
    const race = `$CC -c a.c & echo '#define X 2' >x.h; wait $!`;
    const made = await on.compile(race, { cc });
    expect(made).toMatchObject({ source: "here", code: 0 });
    on.write("x.h", "#define X 1\n");
    await on.settle();
    await on.same(line, { cc });
    on.write("x.h", "#define X 2\n");
    await on.settle();
    await on.same(line, { cc });
    await on.hit(line, { cc });
  });

  test.skipIf(!hasProc)("the source changes while the compiler is stopped", async () => {
    const text = (n: number): string => `${endless(8)}\nint x = ${n};\n`;
    on.write("a.c", text(1));
    await on.settle();
    const compiling = on.compile(line, { cc });
    const pid = await compilerIn(on.folder);
    process.kill(pid, "SIGSTOP");
    on.write("a.c", text(2));
    process.kill(pid, "SIGCONT");
    expect(await compiling).toMatchObject({ code: 0, source: "here", kept: "input-changed" });
    on.write("a.c", text(1));
    await on.settle();
    await on.miss(line, { cc });
    on.write("a.c", text(2));
    await on.settle();
    await on.miss(line, { cc });
  });

  test.skipIf(!hasProc).each(["SIGKILL", "SIGTERM", "SIGSEGV"] as const)(
    "the compiler is killed by %s, and nothing of it is kept",
    async (signal) => {
      on.write("a.c", `${endless(30)}\nint x;\n`);
      await on.settle();
      const compiling = on.compile(bounded, { cc });
      const found = await compilerIn(on.folder);
      process.kill(found, signal);
      const made = await compiling;
      expect(made.source).toBe("here");
      expect(made.code).not.toBe(0);
      expect(made.kept).toMatch(/^exit-code \d+$/);
      on.write("a.c", "int x;\n");
      await on.settle();
      await on.miss(line, { cc });
    },
  );

  test.skipIf(!hasProc)("whoever calls the compiler is killed, and nothing is kept", async () => {
    on.write("a.c", `${endless(30)}\nint x;\n`);
    await on.settle();
    const killed = on
      .compile(`ulimit -t 10; ulimit -v 2000000; $CC -c a.c & echo $! >pid; wait $!`, { cc })
      .catch(() => undefined);
    const pid = await compilerIn(on.folder);
    process.kill(Number(readFileSync(on.at("pid"), "utf8")), "SIGKILL");
    process.kill(pid, "SIGKILL");
    void killed;
    on.write("b.c", "int x;\n");
    await on.settle();
    await on.same("$CC -c b.c", { cc });
  });
});

/** A text that is nothing to a parser and takes it 4 to the power of `n` steps to find out. */
function endless(n: number): string {
  const levels = Array.from({ length: n }, (_, i) => `#define E${i + 1} E${i} E${i} E${i} E${i}\n`);
  return `#define E0 ;;;;\n${levels.join("")}E${n}`;
}

/** The process that reads the source there. */
async function compilerIn(folder: string): Promise<number> {
  for (;;) {
    for (const name of readdirSync("/proc")) {
      if (/^\d+$/.test(name) && isCompilerIn(name, folder)) return Number(name);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function isCompilerIn(pid: string, folder: string): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    // Clang is its own; and the planner asks both of them where their headers are.
    const isProper = /\/(?:cc1|clang)$/.test(words[0] ?? "") && words.includes("a.c");
    return isProper && readlinkSync(`/proc/${pid}/cwd`) === folder;
  } catch {
    return false;
  }
}
