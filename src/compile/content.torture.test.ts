/** What a source says, and what the compiler says about it: object, words, and hit. */
import { utimesSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Asked, canTorture, createTorture, has, type Torture } from "./torture.contract.ts";

let on: Torture;
beforeAll(async () => {
  if (canTorture) on = await createTorture();
});
afterAll(() => on?.close());
afterEach(() => on?.startAnew());

const compilers = canTorture ? ["gcc", ...(has("clang") ? ["clang"] : [])] : [];

describe.each(compilers)("with %s,", (cc) => {
  const epoch = { env: { SOURCE_DATE_EPOCH: "1000000000" } };

  test("only line numbers move", async () => {
    const line = "$CC -g -c a.c";
    on.write("a.c", "int f(void) { return 1; }\n");
    await on.settle();
    const first = await on.miss(line, { cc });
    on.write("a.c", "\nint f(void) { return 1; }\n");
    await on.settle();
    const second = await on.miss(line, { cc });
    expect(second.files["a.o"]).not.toBe(first.files["a.o"]);
    await on.hit(line, { cc });
  });

  test.each(["__DATE__", "__TIME__", "__TIMESTAMP__"])("%s in a header", async (macro) => {
    on.write("a.c", '#include "v.h"\nconst char *x = V;\n');
    on.write("v.h", `#define V ${macro}\n`);
    await on.settle();
    // No comparison of bytes: the second that it is may be another.
    for (const _ of [1, 2]) {
      const made = await on.compile("$CC -c a.c", { cc });
      expect(made).toMatchObject({ code: 0, source: "here", whyHere: "time-macro" });
    }
  });

  test("__TIMESTAMP__ after a touch", async () => {
    on.write("a.c", "const char *x = __TIMESTAMP__;\n");
    const made: unknown[] = [];
    for (const time of [1e9, 2e9]) {
      utimesSync(on.at("a.c"), time, time);
      await on.settle();
      made.push((await on.stays("time-macro", "$CC -c a.c", { cc })).files["a.o"]);
    }
    expect(made[0]).not.toBe(made[1]);
  });

  test("__DATE__ and __TIME__ under SOURCE_DATE_EPOCH", async () => {
    on.write("a.c", "const char *x = __DATE__ __TIME__;\n");
    await on.settle();
    if (cc === "clang") {
      // Whether it obeys the variable depends on its version.
      const made = await on.compile("$CC -c a.c", { cc, ...epoch });
      expect(made).toMatchObject({ source: "here", whyHere: "time-macro" });
      return;
    }
    const first = await on.miss("$CC -c a.c", epoch);
    await on.hit("$CC -c a.c", epoch);
    const second = await on.miss("$CC -c a.c", { env: { SOURCE_DATE_EPOCH: "1100000000" } });
    expect(second.files["a.o"]).not.toBe(first.files["a.o"]);
    await on.hit("$CC -c a.c", epoch);
  });

  test("a macro of the command line holds the time", async () => {
    on.write("a.c", "const char *x = V;\n");
    await on.settle();
    for (const _ of [1, 2]) {
      const made = await on.compile("$CC -c a.c -DV=__TIME__", { cc });
      expect(made).toMatchObject({ code: 0, source: "here", whyHere: "time-macro" });
    }
  });

  test("__FILE__ and __COUNTER__, by whatever name the source is called", async () => {
    on.write("a.c", "const char *x = __FILE__; int n = __COUNTER__, m = __COUNTER__;\n");
    on.write("sub/o", "");
    await on.settle();
    const lines = ["$CC -c a.c", '$CC -c "$PWD/a.c"', "$CC -c ./a.c", "$CC -c sub/../a.c"];
    const objects = new Set<unknown>();
    for (const line of lines) objects.add((await on.miss(line, { cc })).files["a.o"]);
    expect(objects.size).toBe(lines.length);
    for (const line of lines) await on.hit(line, { cc });
  });

  test("the folder it is compiled in is part of the debug information", async () => {
    on.write("a.c", "int f(void) { return 1; }\n");
    on.write("sub/o", "");
    await on.settle();
    const one = await on.miss("$CC -g -c a.c -o sub/a.o", { cc });
    const other = await on.miss("$CC -g -c ../a.c -o a.o", { cc, cwd: "sub" });
    expect(other.files["sub/a.o"]).not.toBe(one.files["sub/a.o"]);
    await on.hit("$CC -g -c ../a.c -o a.o", { cc, cwd: "sub" });
  });

  describe("warnings are said again byte for byte,", () => {
    const warning = 'int f(int a) { int b; return a = "x"; }\n';
    const again = async (line: string, asked: Asked = {}): Promise<string> => {
      await on.settle();
      const { stderr } = await on.miss(line, { cc, ...asked });
      expect((await on.hit(line, { cc, ...asked })).stderr).toBe(stderr);
      return stderr;
    };

    test("with notes and carets", async () => {
      on.write("a.c", '#include "w.h"\nint g(int *p) { return f(p); }\n');
      on.write("w.h", warning);
      const stderr = await again("$CC -Wall -Wextra -c a.c");
      expect(stderr).toMatch(/note:/);
      expect(stderr).toMatch(/\n[ |]*\^/);
      expect(stderr).toMatch(/[iI]n file included from/);
    });

    test("in colours where a build asks for them", async () => {
      on.write("a.c", warning);
      const asked: Asked = {
        env: { MESH_COLOR: "1" },
        plainCc: `${cc} -fdiagnostics-color=always`,
      };
      expect(await again("$CC -Wall -c a.c", asked)).toContain("\u001b[");
      // Nobody asked for them here: it is another action.
      expect((await on.miss("$CC -Wall -c a.c", { cc })).stderr).not.toContain("\u001b[");
      expect((await on.hit("$CC -Wall -c a.c", { cc, ...asked })).stderr).toContain("\u001b[");
    });

    test("in the colours of GCC_COLORS", async () => {
      on.write("a.c", warning);
      const line = "$CC -fdiagnostics-color=always -Wall -c a.c";
      const of = (warn: string): Asked => ({ env: { GCC_COLORS: `warning=${warn}` } });
      const one = await again(line, of("01;31"));
      if (cc === "gcc") expect(one).toContain("\u001b[01;31m");
      const other = await again(line, of("01;36"));
      if (cc === "gcc") expect(other).toContain("\u001b[01;36m");
      expect((await on.hit(line, { cc, ...of("01;31") })).stderr).toBe(one);
    });

    test("in bytes that are no UTF-8", async () => {
      on.write("a.c", Buffer.from('#warning "caf\xe9 \x01"\nint x;\n', "latin1"));
      expect(await again("$CC -c a.c")).toContain("caf");
    });

    test("by as many lines as fill a pipe, and not when they are more than is told", async () => {
      const long = "word ".repeat(200);
      const lines = (count: number): string =>
        Array.from({ length: count }, (_, i) => `#warning ${i} ${long}\n`).join("");
      on.write("a.c", lines(80));
      expect((await again("$CC -c a.c")).length).toBeGreaterThan(65_536);
      on.write("a.c", lines(1100));
      await on.settle();
      await on.stays("output-too-long", "$CC -c a.c", { cc });
    });

    test("of two warnings about one source, each where it belongs", async () => {
      on.write("a.c", warning);
      const all = await again("$CC -Wall -c a.c");
      const none = await again("$CC -w -c a.c");
      expect(none).toBe("");
      expect((await on.hit("$CC -Wall -c a.c", { cc })).stderr).toBe(all);
    });
  });

  test("preprocessed text on stdout and in a file", async () => {
    on.write("a.c", '#include "x.h"\nint x = X;\n');
    on.write("x.h", "#define X 1\n");
    await on.settle();
    for (const _ of [1, 2]) await on.stays("preprocess-only", "$CC -E a.c", { cc });
    await on.miss("$CC -E a.c -o a.i", { cc });
    await on.hit("$CC -E a.c -o a.i", { cc });
  });
});
