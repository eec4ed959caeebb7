/** Where headers are found, and what happens to them between two compiles: object and hit. */
import {
  mkdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
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
  /** Compiled twice, the second time known; then `change`, and another object; and known again. */
  async function changes(
    change: () => void,
    line = "$CC -c a.c -I1 -I2 -o a.o",
    isOther = true,
  ): Promise<void> {
    await on.settle();
    const first = await on.miss(line, { cc });
    await on.settle();
    await on.hit(line, { cc });
    change();
    await on.settle();
    const second = await on.miss(line, { cc });
    if (isOther) expect(second.files["a.o"]).toBeDefined();
    if (isOther) expect(second.files).not.toEqual(first.files);
    await on.hit(line, { cc });
  }

  test("a header is added earlier on the path, and taken away again", async () => {
    on.write("a.c", "#include <x.h>\nint x = X;\n");
    on.write("1/other.h", "");
    on.write("2/x.h", "#define X 2\n");
    await changes(() => on.write("1/x.h", "#define X 1\n"));
    unlinkSync(on.at("1/x.h"));
    await on.hit("$CC -c a.c -I1 -I2 -o a.o", { cc });
  });

  test("a folder of headers that was not there comes", async () => {
    on.write("a.c", "#include <x.h>\nint x = X;\n");
    on.write("2/x.h", "#define X 2\n");
    await changes(() => on.write("1/x.h", "#define X 1\n"));
  });

  test("twin headers are edited alike", async () => {
    on.write("a.c", '#include "p.h"\n#include "q.h"\nint x = X;\n');
    const both = (n: number): void => {
      for (const name of ["p.h", "q.h"]) on.write(name, `#ifndef X\n#define X ${n}\n#endif\n`);
    };
    both(1);
    if (cc === "gcc") return changes(() => both(2));
    // Clang takes files for one by their inodes, which equal blobs share elsewhere.
    await on.stays("twin-headers", "$CC -c a.c", { cc });
    both(2);
    await on.stays("twin-headers", "$CC -c a.c", { cc });
  });

  test("two headers swap their contents", async () => {
    on.write("a.c", '#include "p.h"\n#include "q.h"\nint x = X;\n');
    on.write("p.h", "#define X 1\n");
    on.write("q.h", "#undef X\n#define X 2\n");
    await changes(() => {
      renameSync(on.at("p.h"), on.at("o.h"));
      renameSync(on.at("q.h"), on.at("p.h"));
      renameSync(on.at("o.h"), on.at("q.h"));
    });
  });

  test("a header is generated in the middle of a build", async () => {
    on.write("a.c", '#include "gen.h"\nint x = X;\n');
    await on.settle();
    const failed = await on.same("$CC -c a.c", { cc });
    expect(failed).toMatchObject({ code: 1, source: "here" });
    on.write("gen.h", "#define X 1\n");
    await on.settle();
    await on.miss("$CC -c a.c", { cc });
    await on.hit("$CC -c a.c", { cc });
    rmSync(on.at("gen.h"));
    expect(await on.same("$CC -c a.c", { cc })).toMatchObject({ code: 1, source: "here" });
  });

  test("headers are links, and reached by way of `..`", async () => {
    on.write("a.c", '#include "l.h"\n#include "way/../way/x.h"\nint x = X + L;\n');
    for (const n of [1, 2]) on.write(`d${n}/x.h`, `#define X ${n}\n`);
    for (const n of [1, 2]) on.write(`l${n}.h`, `#define L ${n}\n`);
    symlinkSync("l1.h", on.at("l.h"));
    symlinkSync("d1", on.at("way"));
    await changes(() => lead("l.h", "l2.h"));
    lead("way", "d2");
    await on.settle();
    await on.miss("$CC -c a.c -I1 -I2 -o a.o", { cc });
    lead("l.h", "l1.h");
    lead("way", "d1");
    await on.hit("$CC -c a.c -I1 -I2 -o a.o", { cc });
  });

  test("a link on the search path leads elsewhere", async () => {
    on.write("a.c", "#include <x.h>\nint x = X;\n");
    on.write("deep/d1/x.h", '#include "../y.h"\n');
    on.write("deep/y.h", "#define X 1\n");
    on.write("other/d1/x.h", '#include "../y.h"\n');
    on.write("other/y.h", "#define X 2\n");
    symlinkSync("deep/d1", on.at("1"));
    await changes(() => lead("1", "other/d1"));
  });

  test("files of one name in two folders", async () => {
    on.write("a.c", '#include "1/x.h"\n#include "2/x.h"\nint n = A1 * 10 + A2;\n');
    on.write("b/a.c", '#include "../1/x.h"\nint n = A1;\n');
    for (const n of [1, 2]) {
      on.write(`${n}/x.h`, `#include "y.h" // ${n}\n`);
      on.write(`${n}/y.h`, `#define A${n} ${n}\n`);
    }
    await changes(() => on.write("2/y.h", "#define A2 3\n"));
    await on.miss("$CC -c b/a.c -o b/a.o", { cc });
    await on.hit("$CC -c b/a.c -o b/a.o", { cc });
    await on.hit("$CC -c a.c -I1 -I2 -o a.o", { cc });
  });

  test("a macro names a header", async () => {
    on.write("a.c", "#include H\nint x = X;\n");
    for (const n of [1, 2]) on.write(`x${n}.h`, `#define X ${n}\n`);
    await on.settle();
    const line = (n: number): string => `$CC -c a.c '-DH="x${n}.h"'`;
    const first = await on.miss(line(1), { cc });
    const second = await on.miss(line(2), { cc });
    expect(first.files).not.toEqual(second.files);
    await on.hit(line(1), { cc });
    on.write("x2.h", "#define X 3\n");
    await on.settle();
    await on.hit(line(1), { cc });
    await on.miss(line(2), { cc });
  });

  test("a header names the macro of another's include", async () => {
    on.write("a.c", '#include "which.h"\n#include WHICH\nint x = X;\n');
    on.write("which.h", '#define WHICH "x1.h"\n');
    for (const n of [1, 2]) on.write(`x${n}.h`, `#define X ${n}\n`);
    await changes(() => on.write("which.h", '#define WHICH "x2.h"\n'));
  });

  test("__has_include flips there and back", async () => {
    on.write("a.c", "#if __has_include(<x.h>)\nint x = 1;\n#endif\nint y;\n");
    on.write("2/y.h", "");
    await changes(() => on.write("2/x.h", "#error nobody includes it\n"));
    rmSync(on.at("2/x.h"));
    await on.hit("$CC -c a.c -I1 -I2 -o a.o", { cc });
  });

  test("a header is replaced by a folder of its name, and comes back", async () => {
    on.write("a.c", "#include <x.h>\nint x = X;\n");
    for (const n of [1, 2]) on.write(`${n}/x.h`, `#define X ${n}\n`);
    await changes(() => {
      unlinkSync(on.at("1/x.h"));
      mkdirSync(on.at("1/x.h"));
    });
    rmSync(on.at("1/x.h"), { recursive: true });
    on.write("1/x.h", "#define X 3\n");
    await on.settle();
    await on.miss("$CC -c a.c -I1 -I2 -o a.o", { cc });
  });

  test("a folder on the search path is replaced by a file", async () => {
    on.write("a.c", "#include <x.h>\nint x = X;\n");
    for (const n of [1, 2]) on.write(`${n}/x.h`, `#define X ${n}\n`);
    await on.settle();
    const line = "$CC -c a.c -I1 -I2 -o a.o";
    await on.miss(line, { cc });
    rmSync(on.at("1"), { recursive: true });
    on.write("1", "no folder");
    await on.settle();
    expect(await on.same(line, { cc })).toMatchObject({ code: 0, source: "here" });
    rmSync(on.at("1"));
    await on.settle();
    expect(await on.same(line, { cc })).toMatchObject({ code: 0, source: "here" });
    on.write("1/x.h", "#define X 1\n");
    await on.hit(line, { cc });
  });

  test("a header is only touched, or rewritten as it was", async () => {
    on.write("a.c", '#include "x.h"\nint x = X;\n');
    on.write("x.h", "#define X 1\n");
    await on.settle();
    await on.miss("$CC -c a.c", { cc });
    utimesSync(on.at("x.h"), 1, 1);
    utimesSync(on.at("a.c"), new Date(), new Date());
    await on.hit("$CC -c a.c", { cc });
    on.write("x.h", "#define X 2\n");
    await on.settle();
    await on.miss("$CC -c a.c", { cc });
    on.write("x.h", "#define X 1\n");
    await on.hit("$CC -c a.c", { cc });
  });

  test("an edit of the same size under the old time stamp", async () => {
    on.write("a.c", '#include "x.h"\nint x = X;\n');
    const write = (n: number): void => {
      on.write("x.h", `#define X ${n}\n`);
      utimesSync(on.at("x.h"), 1e9, 1e9);
    };
    write(1);
    await changes(() => write(2), "$CC -c a.c -o a.o");
  });

  test("a header from the future is read every time, and nothing made of it is kept", async () => {
    on.write("a.c", '#include "x.h"\nint x = X;\n');
    const ahead = Date.now() / 1000 + 3600;
    for (const n of [1, 2]) {
      on.write("x.h", `#define X ${n}\n`);
      utimesSync(on.at("x.h"), ahead, ahead);
      await on.settle();
      await on.stays("input-changed", "$CC -c a.c", { cc });
    }
  });

  test("a precompiled header appears", async () => {
    on.write("a.c", '#include "x.h"\nint x = X;\n');
    on.write("x.h", "#define X 1\n");
    const line = cc === "gcc" ? "$CC -c a.c" : "$CC -c a.c -include x.h";
    const suffix = cc === "gcc" ? "gch" : "pch";
    await on.settle();
    await on.miss(line, { cc });
    // No two of them have the same bytes.
    const made = await on.compile(`$CC -c -x c-header x.h -o x.h.${suffix}`, { cc });
    expect(made).toMatchObject({ code: 0, source: "here", whyHere: "pch-create" });
    await on.settle();
    if (cc === "gcc") {
      // It takes the old one, whatever the header says by now.
      await on.miss(line, { cc });
      on.write("x.h", "#define X 2\n");
      await on.settle();
      await on.miss(line, { cc });
      await on.hit(line, { cc });
      on.write("x.h", "#define X 1\n");
    } else {
      await on.stays("pch-use", line, { cc });
    }
    rmSync(on.at(`x.h.${suffix}`));
    await on.hit(line, { cc });
  });

  function lead(name: string, target: string): void {
    expect(readlinkSync(on.at(name))).not.toBe(target);
    unlinkSync(on.at(name));
    symlinkSync(target, on.at(name));
  }
});
