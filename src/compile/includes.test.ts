import { execFileSync, spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createFileView } from "../exec/file-view.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { FileStat } from "../host/host.ts";
import { createIncludeScanner, type IncludeQuery, type Scan } from "./includes.ts";
import { prerequisitesOf } from "./make-rule.ts";

const compilers = ["gcc", "clang"].filter(
  (name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0,
);
const { signal } = new AbortController();
const disk = createDisk();
const clock = createClock();

let folder = "";
let scanner = freshScanner();

function freshScanner(): ReturnType<typeof createIncludeScanner> {
  const known = new Set<string>();
  const store = { has: (d: string) => known.has(d), adopt: (d: string) => void known.add(d) };
  return createIncludeScanner({ view: createFileView({ disk, store, clock }), disk, clock });
}

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "mesh-scan-")));
  scanner = freshScanner();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Writes files long enough ago that their time stamps are to be trusted. */
function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
    utimesSync(join(folder, name), 1e9, 1e9);
  }
}

function query(some: Partial<IncludeQuery> = {}): IncludeQuery {
  const none = { quote: [], bracket: [], system: [], after: [] };
  const plain = { family: "gcc" as const, cwd: folder, source: "a.c", dirs: none, standard: [] };
  return { ...plain, forced: [], defined: [], also: [], ...some };
}

function dirs(bracket: readonly string[], more: Partial<IncludeQuery["dirs"]> = {}) {
  return { dirs: { quote: [], bracket, system: [], after: [], ...more } };
}

const scan = (some?: Partial<IncludeQuery>): Promise<Scan> => scanner.scan(query(some), signal);

/** Names of the files found, relative to the test's folder. */
function names(found: Scan): string[] {
  return [...found.entries.values()]
    .filter(({ kind, path }) => kind === "file" && path.startsWith(folder))
    .map(({ path }) => path.slice(folder.length + 1))
    .sort();
}

describe("where a header is found", () => {
  test("beside the file that includes it, then in -iquote, -I, -isystem and -idirafter folders", async () => {
    const order = ["sub", "q", "i", "s", "z"];
    write({ "sub/a.c": '#include "x.h"\n' });
    for (const name of order) write({ [`${name}/x.h`]: name });
    const where = dirs(["i"], { quote: ["q"], system: ["s"], after: ["z"] });
    for (const name of order) {
      expect(names(await scan({ source: "sub/a.c", ...where }))).toEqual(
        [`${name}/x.h`, "sub/a.c"].sort(),
      );
      unlinkSync(join(folder, name, "x.h"));
    }
  });

  test("an angled name is not looked for beside its file or in -iquote folders", async () => {
    write({ "a.c": "#include <x.h>\n", "x.h": "", "q/x.h": "", "i/x.h": "" });
    expect(names(await scan(dirs(["i"], { quote: ["q"] })))).toEqual(["a.c", "i/x.h"]);
  });

  test("a user's folder that is also a system folder counts as the latter", async () => {
    write({ "a.c": "#include <x.h>\n", "one/x.h": "", "two/x.h": "" });
    expect(names(await scan({ ...dirs(["one", "two"]), standard: ["one"] }))).toEqual([
      "a.c",
      "two/x.h",
    ]);
  });

  test("include_next finds every later one", async () => {
    write({
      "a.c": "#include <x.h>\n",
      "1/x.h": "#include_next <x.h>\n",
      "2/x.h": "",
      "3/x.h": "",
    });
    expect(names(await scan(dirs(["1", "2", "3"])))).toEqual(["1/x.h", "2/x.h", "3/x.h", "a.c"]);
  });

  test("a folder by a header's name is passed over", async () => {
    write({ "a.c": "#include <x.h>\n", "1/x.h/y": "", "2/x.h": "" });
    expect(names(await scan(dirs(["1", "2"])))).toEqual(["2/x.h", "a.c"]);
  });

  test("files that include each other by growing paths end", async () => {
    write({ "a.c": '#include "p/x.h"\n', "p/x.h": '#include "../q/y.h"\n' });
    write({ "q/y.h": '#include "../p/x.h"\n' });
    expect(names(await scan())).toEqual(["a.c", "p/x.h", "q/y.h"]);
  });

  test("forced includes are looked for in the working directory first", async () => {
    write({ "src/a.c": "", "src/f.h": "", "f.h": '#include "g.h"\n', "g.h": "", "i/m.h": "" });
    const found = await scan({ source: "src/a.c", forced: ["f.h", "m.h"], ...dirs(["i"]) });
    expect(names(found)).toEqual(["f.h", "g.h", "i/m.h", "src/a.c"]);
  });

  test("a source, forced include or folder that is not there is an error, a header is not", async () => {
    write({ "a.c": '#include "none.h"\n', file: "" });
    expect(names(await scan())).toEqual(["a.c"]);
    await expect(scan({ source: "b.c" })).rejects.toMatchObject({ code: "io" });
    await expect(scan({ forced: ["none.h"] })).rejects.toMatchObject({ code: "io" });
    await expect(scan(dirs(["file"]))).rejects.toMatchObject({ code: "unsupported" });
  });
});

describe("links", () => {
  test("a header behind a linked folder comes with the link, at its real place", async () => {
    write({ "a.c": '#include "link/x.h"\n', "real/x.h": '#include "y.h"\n', "real/y.h": "" });
    symlinkSync("real", join(folder, "link"));
    const found = await scan();
    expect(names(found)).toEqual(["a.c", "real/x.h", "real/y.h"]);
    expect(found.entries.get(join(folder, "link"))).toEqual({
      kind: "symlink",
      path: join(folder, "link"),
      target: "real",
    });
  });

  test("a linked header looks for others beside the link", async () => {
    write({ "a.c": '#include "inc/x.h"\n', "src/x.h": '#include "y.h"\n' });
    write({ "src/y.h": "wrong", "inc/y.h": "right" });
    symlinkSync("../src/x.h", join(folder, "inc/x.h"));
    expect(names(await scan())).toEqual(["a.c", "inc/y.h", "src/x.h"]);
  });

  test("folders left by .. are named, so that the way exists", async () => {
    write({ "a.c": '#include "deep/er/../../x.h"\n', "deep/er/other": "", "x.h": "" });
    const found = await scan();
    expect(names(found)).toEqual(["a.c", "x.h"]);
    expect(found.entries.get(join(folder, "deep/er"))?.kind).toBe("directory");
  });

  test("links in a circle lead nowhere", async () => {
    write({ "a.c": '#include "x.h"\n' });
    symlinkSync("x.h", join(folder, "x.h"));
    expect(names(await scan())).toEqual(["a.c"]);
  });
});

describe("a second scan sees", () => {
  test("a header that has come earlier on the path", async () => {
    write({ "a.c": "#include <x.h>\n", "2/x.h": "", "1/other.h": "" });
    expect(names(await scan(dirs(["1", "2"])))).toEqual(["2/x.h", "a.c"]);
    write({ "1/x.h": "" });
    expect(names(await scan(dirs(["1", "2"])))).toEqual(["1/x.h", "a.c"]);
  });

  test("a folder that has come into being", async () => {
    write({ "a.c": "#include <x.h>\n", "2/x.h": "" });
    expect(names(await scan(dirs(["1", "2"])))).toEqual(["2/x.h", "a.c"]);
    write({ "1/x.h": "" });
    expect(names(await scan(dirs(["1", "2"])))).toEqual(["1/x.h", "a.c"]);
  });

  test("a link that points elsewhere now", async () => {
    write({ "a.c": '#include "v/x.h"\n', "v1/x.h": "", "v2/x.h": "2" });
    symlinkSync("v1", join(folder, "v"));
    expect(names(await scan())).toEqual(["a.c", "v1/x.h"]);
    unlinkSync(join(folder, "v"));
    symlinkSync("v2", join(folder, "v"));
    expect(names(await scan())).toEqual(["a.c", "v2/x.h"]);
  });

  test("that a header is gone, or has become a folder or a link", async () => {
    write({ "a.c": "#include <x.h>\n#if __has_include(<y.h>)\n#endif\n" });
    write({ "1/x.h": "", "1/y.h": "", "2/x.h": "", "2/y.h": "" });
    const where = dirs(["1", "2"]);
    expect(names(await scan(where))).toEqual(["1/x.h", "1/y.h", "a.c"]);
    unlinkSync(join(folder, "1/x.h"));
    unlinkSync(join(folder, "1/y.h"));
    expect(names(await scan(where))).toEqual(["2/x.h", "2/y.h", "a.c"]);
    unlinkSync(join(folder, "2/x.h"));
    mkdirSync(join(folder, "2/x.h"));
    unlinkSync(join(folder, "2/y.h"));
    symlinkSync("z.h", join(folder, "2/y.h"));
    expect(names(await scan(where))).toEqual(["a.c"]);
    write({ "2/z.h": "" });
    expect(names(await scan(where))).toEqual(["2/z.h", "a.c"]);
  });

  test("that a header it only asks about is gone, and another takes its place", async () => {
    write({ "a.c": "#if __has_include(<y.h>)\n#endif\n", "1/y.h": "", "2/y.h": "" });
    expect(names(await scan(dirs(["1", "2"])))).toEqual(["1/y.h", "a.c"]);
    unlinkSync(join(folder, "1/y.h"));
    expect(names(await scan(dirs(["1", "2"])))).toEqual(["2/y.h", "a.c"]);
  });

  test("new text of the same length written within one tick of the drive's clock", async () => {
    const coarse = (stat: FileStat | undefined): FileStat | undefined => {
      const second = 1_000_000_000n;
      const whole = (timeNs: bigint): bigint => (timeNs / second) * second;
      return stat && { ...stat, mtimeNs: whole(stat.mtimeNs), ctimeNs: whole(stat.ctimeNs) };
    };
    const drive = { ...disk, statNow: (path: string) => coarse(disk.statNow(path)) };
    const store = { has: () => true, adopt: () => {} };
    const view = createFileView({ disk: drive, store, clock });
    const onDrive = createIncludeScanner({ view, disk: drive, clock });
    write({ "x.h": "", "y.h": "" });
    for (const name of ["x", "y", "x", "y", "x"]) {
      writeFileSync(join(folder, "a.c"), `#include "${name}.h"\n`);
      expect(names(await onDrive.scan(query(), signal))).toEqual(["a.c", `${name}.h`]);
    }
    // The same for a folder: its answers of a moment ago may be old by now.
    for (const there of [false, true, false, true]) {
      if (there) write({ "1/x.h": "" });
      else rmSync(join(folder, "1/x.h"), { force: true });
      mkdirSync(join(folder, "1"), { recursive: true });
      const found = await onDrive.scan(query(dirs(["1"])), signal);
      writeFileSync(join(folder, "a.c"), "#include <x.h>\n");
      const again = await onDrive.scan(query(dirs(["1"])), signal);
      expect([names(again), found.files.length > 0]).toEqual([
        there ? ["1/x.h", "a.c"] : ["a.c"],
        true,
      ]);
    }
  });

  test("another folder moved into the place of the first", async () => {
    write({ "a.c": '#include "d/x.h"\n', "d/x.h": "", "e/y.h": "" });
    expect(names(await scan())).toEqual(["a.c", "d/x.h"]);
    renameSync(join(folder, "d"), join(folder, "old"));
    renameSync(join(folder, "e"), join(folder, "d"));
    expect(names(await scan())).toEqual(["a.c"]);
  });
});

describe("what only the compiler can tell", () => {
  test("an include by a macro is followed through every header's name it is given", async () => {
    write({ "a.c": '#include "m.h"\n#include WHICH\n', "x.h": '#define MORE "z.h"\n', "y.h": "" });
    write({ "m.h": '#if A\n#define WHICH "x.h"\n#else\n#define WHICH "y.h"\n#endif\n' });
    const found = await scan();
    expect([names(found), found.unresolved]).toEqual([["a.c", "m.h", "x.h", "y.h"], false]);
  });

  test.each([
    [
      "a macro that is something else somewhere",
      "#define H A(B)\n#define H <x.h>\n#include H\n",
      [],
    ],
    ["a macro from the command line", "#include H\n", ["H"]],
    ["a macro of the compiler's own", "#include __FILE__\n", []],
    ["an expression", "#include H(x)\n", []],
  ])("%s leaves the scan unresolved", async (_, text, defined) => {
    write({ "a.c": text });
    expect((await scan({ defined })).unresolved).toBe(true);
  });

  test("a macro that nobody defines is in a dead branch", async () => {
    write({ "a.c": "#ifdef H\n#include H\n#endif\n" });
    expect((await scan()).unresolved).toBe(false);
  });

  test("a question passed through a macro of another file is noticed", async () => {
    write({ "a.c": '#include "m.h"\n#if HAS(NAME)\n#endif\n' });
    write({ "m.h": "#define HAS(x) __has_include(x)\n" });
    expect((await scan()).seen.computedProbe).toBe(true);
  });

  test("a header that is asked about is shipped but not read", async () => {
    write({ "a.c": '#if __has_include("x.h")\n#endif\n', "x.h": '#include "y.h"\n', "y.h": "" });
    expect(names(await scan())).toEqual(["a.c", "x.h"]);
  });

  test("a file that is embedded is shipped from wherever it may be meant, and is not read", async () => {
    write({ "a.c": '#embed "e.bin" limit(1)\n#embed <f.bin>\n', "e.bin": '#include "x.h"\n' });
    write({ "x.h": "", "1/e.bin": "", "embeds/f.bin": "", "embeds/e.bin": "" });
    const found = await scan({ ...dirs(["1"]), embedDirs: ["embeds"] });
    expect(names(found)).toEqual(["1/e.bin", "a.c", "e.bin", "embeds/e.bin", "embeds/f.bin"]);
    expect(found.seen).toMatchObject({ embed: true, computedEmbed: false });
  });

  test("what the assembler reads is looked for in the working directory and in all others", async () => {
    write({ "sub/a.s": '.include "i.inc"\n.incbin "d.bin"\n', "i.inc": '.incbin "e.bin"\n' });
    write({ "1/d.bin": '#include "x.h"\n', "2/d.bin": "", "2/e.bin": "", "sub/x.h": "" });
    expect(names(await scan({ source: "sub/a.s", ...dirs(["1", "2"]) }))).toEqual([
      "1/d.bin",
      "2/d.bin",
      "2/e.bin",
      "i.inc",
      "sub/a.s",
    ]);
  });

  test("a precompiled header that can be used is an input", async () => {
    write({ "a.c": '#include "x.h"\n', "x.h": "", "x.h.gch": "bytes" });
    const found = await scan();
    expect(found.precompiled).toBe(false);
    expect(names(found)).toEqual(["a.c", "x.h", "x.h.gch"]);
    expect(found.facts.files.map(({ path }) => path)).toContain(join(folder, "x.h.gch"));
    expect((await scan({ family: "clang", forced: ["x.h"] })).precompiled).toBe(true);
  });

  test("the second scan of a precompiled header finds it again", async () => {
    write({ "a.c": '#include "x.h"\n', "x.h": "" });
    expect(names(await scan())).toEqual(["a.c", "x.h"]);
    write({ "x.h.gch": "bytes" });
    expect(names(await scan())).toEqual(["a.c", "x.h", "x.h.gch"]);
  });

  test("a precompiled header beside an included one is noticed", async () => {
    write({ "a.c": '#include "x.h"\n', "x.h": "" });
    expect((await scan()).precompiled).toBe(false);
    write({ "x.h.gch/one": "" });
    expect((await scan()).precompiled).toBe(true);
  });

  test("two files that are read once and have the same bytes are noticed", async () => {
    write({ "a.c": '#include "1/x.h"\n#include "2/x.h"\n' });
    write({ "1/x.h": "#pragma once\n", "2/x.h": "#pragma once\n" });
    expect((await scan()).twins).toBe(true);
    write({ "2/x.h": "#pragma once\n\n" });
    expect((await scan()).twins).toBe(false);
  });
});

test("more files than one source may reach is a clear refusal", async () => {
  const view = createFileView({ disk, store: { has: () => true, adopt: () => {} }, clock });
  const bounds = { lexicalsMax: 9, contextsMax: 9, linkedMax: 9, reachMax: 3, readsPerTurn: 1 };
  const small = createIncludeScanner({ view, disk, clock }, bounds);
  write({ "a.c": '#include "0.h"\n' });
  for (let i = 0; i < 5; i++) write({ [`${i}.h`]: `#include "${i + 1}.h"\n` });
  await expect(small.scan(query(), signal)).rejects.toMatchObject({ code: "limit" });
});

describe.each(compilers)("against %s", (compiler) => {
  const family = compiler === "clang" ? ("clang" as const) : ("gcc" as const);

  function searchDirs(...args: string[]): { quote: string[]; angled: string[] } {
    const { stderr } = spawnSync(compiler, [...args, "-E", "-v", "-xc", "/dev/null"], {
      cwd: folder,
      encoding: "utf8",
      env: { PATH: process.env.PATH, LC_ALL: "C" },
    });
    const [, quote = "", angled = ""] =
      /"\.\.\." search starts here:\n(.*)#include <\.\.\.> search starts here:\n(.*)End of search/s.exec(
        stderr,
      ) ?? [];
    const list = (text: string) => text.split("\n").flatMap((line) => line.trim() || []);
    return { quote: list(quote), angled: list(angled) };
  }

  test("folders are searched in the compiler's order, whatever is given twice", async () => {
    for (const name of ["p", "q", "r"]) mkdirSync(join(folder, name));
    symlinkSync("p", join(folder, "l"));
    const standard = searchDirs().angled;
    const own = standard.at(-1) ?? "/usr/include";
    const { findSearchPath } = await import("./search-path.ts");
    const lists: readonly (readonly string[])[] = [
      ["-Ip", "-Iq", "-Ip"],
      ["-Ip", "-isystemp", "-Iq"],
      ["-iquotep", "-Ip", "-Iq"],
      ["-iquotep", "-iquoteq", "-iquotep"],
      ["-iquotep", "-isystemp", "-Iq"],
      ["-Il", "-Ip", "-idirafterq", "-isystemq"],
      ["-Ir", "-idirafterr", "-Inone"],
      [`-I${own}`, "-Ip"],
      [`-isystem${own}`, "-Ip"],
      [`-iquote${own}`, "-Ip"],
    ];
    for (const args of lists) {
      const of = (flag: string) =>
        args.flatMap((arg) => (arg.startsWith(flag) ? [arg.slice(flag.length)] : []));
      const given = {
        quote: of("-iquote"),
        bracket: of("-I"),
        system: of("-isystem"),
        after: of("-idirafter"),
      };
      const view = createFileView({ disk, store: { has: () => true, adopt: () => {} }, clock });
      const look = view.look();
      const trail = { links: new Map(), folders: new Set<never>(), asked: new Set<never>() };
      const cwd = look.folder(folder);
      const path = findSearchPath(
        look,
        cwd,
        { dirs: given, standard, embedDirs: [], family },
        trail,
      );
      const real = searchDirs(...args);
      const canonical = (names: readonly string[]) =>
        names.map((name) => realpathSync(resolve(folder, name)));
      const ours = path?.chain.map((node) => node.path) ?? [];
      const angled = ours.slice(path?.bracketStart);
      expect({ args, angled }).toEqual({ args, angled: canonical(real.angled) });
      // Which of the quote folders are named twice has no effect on what is found.
      const firsts = (names: readonly string[]) => [...new Set(names)];
      expect({ args, all: firsts(ours) }).toEqual({
        args,
        all: firsts(canonical([...real.quote, ...real.angled])),
      });
    }
  });

  test("nothing that the compiler opens is missed in its own library's headers", async () => {
    const standard = searchDirs().angled;
    const headers = "stdio.h stdlib.h math.h stdint.h limits.h pthread.h signal.h sys/socket.h";
    write({ "a.c": headers.replace(/\S+/g, "#include <$&>\n") });
    const found = await scan({ standard, family });
    const opened = prerequisitesOf(
      execFileSync(compiler, ["-M", "a.c"], { cwd: folder, encoding: "utf8" }),
    );
    expect(opened?.length).toBeGreaterThan(30);
    expect(
      opened?.filter((name) => !found.entries.has(realpathSync(resolve(folder, name)))),
    ).toEqual([]);
    expect(found.unresolved).toBe(false);
  });
});

test.skipIf(!compilers.includes("gcc"))(
  "nothing is missed of the whole C++ library, and a second scan reads nothing",
  async () => {
    const gcc = "g++";
    const { stderr } = spawnSync(gcc, ["-E", "-v", "-xc++", "/dev/null"], {
      encoding: "utf8",
      env: { PATH: process.env.PATH, LC_ALL: "C" },
    });
    const list = stderr.split("#include <...> search starts here:\n")[1]?.split("End of")[0] ?? "";
    const standard = list.split("\n").flatMap((line) => line.trim() || []);
    write({ "a.cpp": "#include <bits/stdc++.h>\n" });
    let reads = 0;
    const counting = {
      ...disk,
      readNow(path: string) {
        reads++;
        return disk.readNow(path);
      },
    };
    const store = { has: () => true, adopt: () => {} };
    const view = createFileView({ disk: counting, store, clock });
    const scanner = createIncludeScanner({ view, disk: counting, clock });
    const asked = query({ source: "a.cpp", standard });
    const found = await scanner.scan(asked, signal);
    const opened = prerequisitesOf(
      execFileSync(gcc, ["-M", "a.cpp"], { cwd: folder, encoding: "utf8" }),
    );
    expect(
      opened?.filter((name) => !found.entries.has(realpathSync(resolve(folder, name)))),
    ).toEqual([]);
    expect(found.unresolved).toBe(false);
    const before = reads;
    expect(names(await scanner.scan(asked, signal))).toEqual(["a.cpp"]);
    // The source was written just now: its time stamp is not to be trusted yet.
    expect(reads - before).toBe(1);
  },
);
