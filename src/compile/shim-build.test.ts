import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { createDisk } from "../host/disk.ts";
import { createProcesses } from "../host/processes.ts";
import { createRandom } from "../host/random.ts";
import { buildShim, makeMasquerade } from "./shim-build.ts";
import { hasCc } from "./shim-world.contract.ts";

let folder: string;
const processes = createProcesses();
const deps = { disk: createDisk(), processes, random: createRandom() };
const never = new AbortController().signal;
const systemPath = "/usr/local/bin:/usr/bin:/bin";
afterAll(() => processes.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-shim-build-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true, force: true });
});

const build = (path: string) =>
  buildShim(deps, { folder: join(folder, "shim"), path, nodePath: process.execPath }, never);

function script(name: string, text: string): string {
  const path = join(folder, "tools", name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}

const runs = (program: string, ...args: string[]) =>
  spawnSync(program, args, { encoding: "utf8", env: { PATH: systemPath } });

test.skipIf(!hasCc)("the shim is built once, with the compiler of this machine", async () => {
  const shim = await build(systemPath);
  expect(shim).toMatchObject({ kind: "c", why: undefined });
  expect(runs(shim.program, "echo", "hello").stdout).toBe("hello\n");
  const before = statSync(shim.program);
  expect(await build(systemPath)).toEqual(shim);
  expect(statSync(shim.program).ino).toBe(before.ino);
  expect(readdirSync(dirname(shim.program))).toEqual(["mesh-shim"]);
});

test("without a compiler there is a slower shim in Node, and the reason is told", async () => {
  mkdirSync(join(folder, "empty"));
  const shim = await build(join(folder, "empty"));
  expect(shim).toMatchObject({ kind: "node", why: "no cc; no gcc; no clang" });
  expect(runs(shim.program, "echo", "hello").stdout).toBe("hello\n");
});

test("a compiler that cannot build is passed over with what it said", async () => {
  const liar = 'case "$1" in --version) echo 1;; *) echo no libc here >&2; exit 1;; esac';
  script("cc", `#!/bin/sh\n${liar}\n`);
  const shim = await build(join(folder, "tools"));
  expect(shim.kind).toBe("node");
  expect(shim.why).toContain("exit code 1: no libc here");
});

test("a shim that was built but does not run is not used", async () => {
  script(
    "cc",
    '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && /usr/bin/touch "$2"; shift; done\n',
  );
  const shim = await build(join(folder, "tools"));
  expect(shim.kind).toBe("node");
  expect(shim.why).toContain("cc: ");
});

test("the folder of names offers the compilers that are in the PATH, and no other", async () => {
  for (const name of [
    "gcc",
    "g++-12",
    "x86_64-linux-gnu-gcc-12",
    "clang",
    "gcc-ar",
    "ld",
    "c++filt",
  ]) {
    script(name, "#!/bin/sh\n");
  }
  script("c99", "#!/bin/sh\nexec gcc -std=c99\n");
  writeFileSync(join(folder, "tools", "cc"), "not executable");
  const tools = join(folder, "tools");
  const shim = await build(join(folder, "empty"));
  const masquerade = await makeMasquerade(deps, shim, `relative:${tools}:/none:`);
  const expected = [".mesh-shim", "clang", "g++-12", "gcc", "gcc-ar", "ld"];
  expected.push("x86_64-linux-gnu-gcc-12");
  expect(readdirSync(masquerade).sort()).toEqual(expected);
  expect(await makeMasquerade(deps, shim, tools)).toBe(masquerade);
  // Looking again from inside a build, with the folder itself in front, changes nothing.
  expect(await makeMasquerade(deps, shim, `${masquerade}:${tools}`)).toBe(masquerade);
  rmSync(join(tools, "clang"));
  expect(await makeMasquerade(deps, shim, tools)).not.toBe(masquerade);
});

test.skipIf(!hasCc)(
  "a compiler called by its name goes through the shim to the real one",
  async () => {
    const gcc = script("gcc", '#!/bin/sh\necho "real $0 $@"\n');
    const shim = await build(systemPath);
    const path = join(folder, "tools");
    const masquerade = await makeMasquerade(deps, shim, path);
    const env = { PATH: `${masquerade}:${path}` };
    const ended = spawnSync(join(masquerade, "gcc"), ["-c"], { encoding: "utf8", env });
    expect(ended.stdout).toBe(`real ${gcc} -c\n`);
    expect(readFileSync(join(masquerade, ".mesh-shim"), "utf8")).toBe("");
  },
);

test.skipIf(!hasCc)("the shim is not built with another shim", async () => {
  const shim = await build(systemPath);
  const masquerade = await makeMasquerade(deps, shim, systemPath);
  symlinkSync(join(masquerade, "cc"), join(folder, "cc"));
  expect(await build(masquerade)).toMatchObject({ kind: "node", why: "no cc; no gcc; no clang" });
  expect(await build(`${masquerade}:${systemPath}`)).toEqual(shim);
});
