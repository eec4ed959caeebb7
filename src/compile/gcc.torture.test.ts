/**
 * Cases in which caches and distributed compilers are known to give the wrong object. Each says
 * what the action is then: the same one, whose known result may be used, or another; and whether
 * the inputs are right is seen in a root that holds nothing else.
 */
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeAction } from "../action/encode.ts";
import {
  createGccWorld,
  findCompilers,
  type GccWorld,
  readable,
  runHere,
} from "./gcc-world.contract.ts";
import { canStage } from "./staged-root.contract.ts";

const gcc = findCompilers().find(({ name }) => name === "gcc")?.path ?? "";
if (gcc === "" || !canStage) console.warn("gcc or bwrap is not here: nothing is tortured");

let world: GccWorld;
beforeEach(() => {
  world = createGccWorld();
});
afterEach(() => world.close());

const at = (name: string): string => join(world.folder, name);

interface Asked {
  readonly env?: Readonly<Record<string, string>>;
  readonly compiler?: string;
  readonly cwd?: string;
}

const invocation = (args: string | readonly string[], { env, compiler, cwd }: Asked = {}) =>
  world.invocation(compiler ?? gcc, typeof args === "string" ? args.split(" ") : args, cwd, env);

/** The action's identity, once it is seen to give the right bytes from its inputs alone. */
async function identity(args: string | readonly string[], asked?: Asked): Promise<string> {
  const given = invocation(args, asked);
  const { spec } = await world.mustPlan(given);
  const here = runHere(given, spec.outputPaths);
  expect({ exitCode: here.exitCode, stderr: here.stderr }).toMatchObject({ exitCode: 0 });
  expect(readable(world.stage.run(spec))).toEqual(readable(here));
  return encodeAction(spec).digest;
}

/** Two identities, `change` in between. */
async function around(
  change: () => void,
  args: string | readonly string[] = "-c a.c -I1 -I2",
): Promise<{ readonly before: string; readonly after: string }> {
  const before = await identity(args);
  change();
  return { before, after: await identity(args) };
}

async function reason(args: string | readonly string[], asked?: Asked): Promise<string> {
  const planned = await world.plan(invocation(args, asked));
  return planned.at === "here" ? planned.reason : "goes";
}

describe.skipIf(gcc === "" || !canStage)("another action:", () => {
  const differs = async (change: () => void, args?: string): Promise<void> => {
    const { before, after } = await around(change, args);
    expect(after).not.toBe(before);
  };

  test("a header is added earlier on the path", async () => {
    world.write("a.c", "#include <x.h>\nint x = X;\n");
    world.write("1/other.h", "");
    world.write("2/x.h", "#define X 2\n");
    await differs(() => world.write("1/x.h", "#define X 1\n"));
  });

  test("twin headers are edited alike", async () => {
    world.write("a.c", '#include "p.h"\n#include "q.h"\nint x = X;\n');
    for (const name of ["p.h", "q.h"]) world.write(name, "#ifndef X\n#define X 1\n#endif\n");
    await differs(() => {
      for (const name of ["p.h", "q.h"]) world.write(name, "#ifndef X\n#define X 2\n#endif\n");
    });
  });

  test("two headers swap their contents", async () => {
    world.write("a.c", '#include "p.h"\n#include "q.h"\nint x = X;\n');
    world.write("p.h", "#define X 1\n");
    world.write("q.h", "#undef X\n#define X 2\n");
    await differs(() => {
      renameSync(at("p.h"), at("o.h"));
      renameSync(at("q.h"), at("p.h"));
      renameSync(at("o.h"), at("q.h"));
    });
  });

  test("a header is generated in the middle of a build", async () => {
    world.write("a.c", '#if __has_include("gen.h")\n#include "gen.h"\n#endif\nint x = 1;\n');
    await differs(() => world.write("gen.h", "int generated;\n"));
  });

  test("a link to a header, or on the way to one, leads elsewhere", async () => {
    world.write("a.c", '#include "l.h"\n#include "way/../way/x.h"\nint x = X + L;\n');
    for (const n of [1, 2]) world.write(`d${n}/x.h`, `#define X ${n}\n`);
    for (const n of [1, 2]) world.write(`l${n}.h`, `#define L ${n}\n`);
    symlinkSync("l1.h", at("l.h"));
    symlinkSync("d1", at("way"));
    await differs(() => {
      unlinkSync(at("l.h"));
      symlinkSync("l2.h", at("l.h"));
    });
    await differs(() => {
      unlinkSync(at("way"));
      symlinkSync("d2", at("way"));
    });
  });

  test("a header is replaced by a folder of its name", async () => {
    world.write("a.c", "#include <x.h>\nint x = X;\n");
    for (const n of [1, 2]) world.write(`${n}/x.h`, `#define X ${n}\n`);
    await differs(() => {
      unlinkSync(at("1/x.h"));
      mkdirSync(at("1/x.h"));
    });
  });

  test("only line numbers move", async () => {
    world.write("a.c", "int f(void) { return 1; }\n");
    await differs(() => world.write("a.c", "\nint f(void) { return 1; }\n"), "-g -c a.c");
  });

  test("a response file changes", async () => {
    world.write("a.c", "int x = X;\n");
    world.write("flags.rsp", "-DX=1");
    await differs(() => world.write("flags.rsp", "-DX=2"), "-c a.c @flags.rsp");
  });

  test("a macro of the command line names another header", async () => {
    world.write("a.c", "#include H\nint x = X;\n");
    for (const n of [1, 2]) world.write(`x${n}.h`, `#define X ${n}\n`);
    // What was written this very moment is not believed to be what the compiler saw.
    await new Promise((later) => setTimeout(later, 30));
    const first = await identity(["-c", "a.c", '-DH="x1.h"']);
    expect(await identity(["-c", "a.c", '-DH="x2.h"'])).not.toBe(first);
  });

  test("the compiler is upgraded in place", async () => {
    world.write("a.c", "int x;\n");
    mkdirSync(at("bin"));
    copyFileSync(realpathSync(gcc), at("bin/gcc"));
    mkdirSync(at("lib"));
    symlinkSync("/usr/lib/gcc", at("lib/gcc"));
    const compiler = at("bin/gcc");
    const first = await identity("-c a.c", { compiler });
    appendFileSync(compiler, "\0");
    expect(await identity("-c a.c", { compiler })).not.toBe(first);
  });

  test("an environment variable says where headers are, what time it is, or what to speak", async () => {
    world.write("a.c", "#include <x.h>\nconst char *x = X __DATE__;\n");
    for (const n of [1, 2]) world.write(`${n}/x.h`, `#define X "${n}"\n`);
    const epoch = { SOURCE_DATE_EPOCH: "1000000000" };
    const of = (env: Readonly<Record<string, string>>) => identity("-c a.c", { env });
    const seen = [
      await of({ ...epoch, CPATH: "1" }),
      await of({ ...epoch, CPATH: "2" }),
      await of({ ...epoch, C_INCLUDE_PATH: "1" }),
      await of({ SOURCE_DATE_EPOCH: "1100000000", CPATH: "1" }),
      await of({ ...epoch, CPATH: "1", LANG: "C" }),
    ];
    expect(new Set(seen).size).toBe(seen.length);
  });
});

describe.skipIf(gcc === "" || !canStage)("the same action:", () => {
  test("__has_include flips there and back", async () => {
    world.write("a.c", '#if __has_include("x.h")\n#include "x.h"\n#endif\nint x = 1;\n');
    const first = await identity("-c a.c");
    world.write("x.h", "int there;\n");
    expect(await identity("-c a.c")).not.toBe(first);
    rmSync(at("x.h"));
    expect(await identity("-c a.c")).toBe(first);
  });

  test("a variable that no compiler reads, or a file beside the others, changes nothing", async () => {
    world.write("a.c", "const char *x = __FILE__; int n = __COUNTER__;\n");
    const first = await identity("-c a.c");
    world.write("b.c", "");
    world.write("1/x.h", "");
    expect(await identity("-c a.c", { env: { HOME: "/x", MAKEFLAGS: "-j9" } })).toBe(first);
  });

  test("files of one name in two folders are told apart, whoever includes them", async () => {
    world.write("a.c", '#include "1/x.h"\n#include "2/x.h"\nint n = A1 * 10 + A2;\n');
    for (const n of [1, 2]) {
      world.write(`${n}/x.h`, '#include "y.h"\n');
      world.write(`${n}/y.h`, `#define A${n} ${n}\n`);
    }
    const { before, after } = await around(() => {}, "-c a.c");
    expect(after).toBe(before);
  });

  test("names may hold spaces, quotes and newlines", async () => {
    const name = "a 'b' \"c\"\nd.c";
    world.write(name, '#include "e f.h"\nint x = X;\n');
    world.write("e f.h", "#define X 1\n");
    const args = ["-c", name, "-o", "o 'o'.o", '-DY="q \\" r"'];
    const { before, after } = await around(() => {}, args);
    expect(after).toBe(before);
  });
});

describe.skipIf(gcc === "")("no action at all:", () => {
  test("the time of day is part of the object", async () => {
    for (const macro of ["__DATE__", "__TIME__", "__TIMESTAMP__"]) {
      world.write("a.c", '#include "v.h"\nconst char *x = V;\n');
      world.write("v.h", `#define V ${macro}\n`);
      expect(await reason("-c a.c")).toBe("time-macro");
    }
    world.write("v.h", '/* __DATE__ */\n#ifndef __TIME__\n#endif\n#define V "__TIMESTAMP__"\n');
    expect(await reason("-c a.c")).toBe("goes");
  });

  test("two headers that are read once have the same bytes", async () => {
    world.write("a.c", '#include "1/x.h"\n#include "2/x.h"\n');
    for (const n of [1, 2]) world.write(`${n}/x.h`, "#pragma once\nextern int x;\n");
    expect(await reason("-c a.c")).toBe("twin-headers");
  });

  test("the working directory was removed", async () => {
    world.write("gone/a.c", "");
    const asked = { ...invocation("-c a.c"), cwd: at("gone") };
    rmSync(at("gone"), { recursive: true });
    expect(await world.plan(asked)).toMatchObject({ at: "here", reason: "output-folder" });
  });

  test("the output is a link, a device or a queue", async () => {
    world.write("a.c", "int x;\n");
    symlinkSync("elsewhere.o", at("link.o"));
    expect(spawnSync("mkfifo", [at("fifo.o")]).status).toBe(0);
    for (const output of ["link.o", "fifo.o", "/dev/null"])
      expect(await reason(["-c", "a.c", "-o", output])).toBe("output-special");
  });

  test("a name is no UTF-8, or a command line is too long for any machine", async () => {
    expect(await reason(["-c", "\ufffd.c"])).toBe("not-utf8");
    const many = Array.from({ length: 100_000 }, (_, i) => `-DNAME_${i}=${i}`);
    expect(await reason(["-c", "a.c", ...many])).toBe("too-long");
  });
});

test.skipIf(gcc === "")("a hundred thousand arguments are read like any others", async () => {
  world.write("a.c", "int x;\n");
  const many = Array.from({ length: 100_000 }, () => "-w");
  expect(await reason(["-c", "a.c", ...many])).toBe("goes");
});
