/** What every tier with walls promises about a command it runs. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { digestOf } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { endingContract, resultContract } from "./run.contract.ts";
import {
  createWorld,
  fileOf,
  type GetWorld,
  inputsOf,
  never,
  programsOf,
  type Scripted,
  type World,
  which,
} from "./sandbox-world.contract.ts";

const tools = ["sh", "bash", "cat", "chmod", "head", "ln", "ls", "mkdir", "mkfifo", "mv"];
const moreTools = ["readlink", "rm", "setsid", "sleep", "tail", "touch", "env", "id"];

/** A large input: mounted in a bay, not copied. */
const large = new Uint8Array(1_500_000).fill(120);

export function sandboxContract(tier: "bwrap" | "unshare"): void {
  let world: World;
  let programs: readonly TreeEntry[];

  beforeAll(async () => {
    world = await createWorld(tier);
    programs = await programsOf(world.store, ["/bin/sh", "/bin/bash", ...tools, ...moreTools]);
  });
  afterAll(() => world.close());

  /** An action that runs a shell script. */
  function scripted(script: string, more: Partial<ActionSpec> = {}): ActionSpec {
    return {
      argv: ["/bin/sh", "-c", script],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/mesh-work",
      outputPaths: [],
      platform: {},
      timeoutMs: 20_000,
      ...more,
      inputs: [...programs, ...(more.inputs ?? [])],
    };
  }
  const roomsLeft = (): readonly string[] =>
    fs.readdirSync(world.tmpDir).filter((name) => /^exec-[0-9]/.test(name));

  visibilityContract(() => world, scripted);
  writingContract(() => world, scripted);
  endingContract(() => world, scripted, roomsLeft);
  resultContract(() => world, scripted);

  test.skipIf(which("gcc") === undefined)(
    "an object compiled inside is the one compiled outside, byte for byte",
    async () => {
      const dir = fs.mkdtempSync(join(tmpdir(), "mesh-src-"));
      try {
        fs.writeFileSync(join(dir, "add.h"), "int add(int, int);\n");
        const source = '#include <stdio.h>\n#include "add.h"\nint add(int a, int b) {\n';
        fs.writeFileSync(join(dir, "add.c"), `${source}  puts(__FILE__); return a + b;\n}\n`);
        const args = ["-g", "-O2", "-c", "add.c", "-o", "out/add.o"];
        const listed = await runHere(world, ["gcc", "-g", "-O2", "-M", "add.c"], dir);
        const read = listed.replaceAll("\\\n", " ");
        const headers = read.trim().split(/\s+/).slice(1);
        const inputs = await inputsOf(
          world.store,
          headers.map((path) => (path.startsWith("/") ? path : join(dir, path))),
        );
        const cc1 = execFileSync("gcc", ["-print-prog-name=cc1"], { encoding: "utf8" }).trim();
        const gcc = await programsOf(world.store, ["gcc", "as", cc1]);
        const output = join(dir, "out/add.o");
        const ran = await world.run({
          argv: ["/usr/bin/gcc", ...args],
          env: { PATH: "/usr/bin:/bin" },
          cwd: dir,
          outputPaths: [output],
          inputs: [...new Map([...gcc, ...inputs].map((entry) => [entry.path, entry])).values()],
          platform: {},
          timeoutMs: 20_000,
        });
        expect(ran.err).toBe("");
        fs.mkdirSync(join(dir, "out"));
        execFileSync("/usr/bin/gcc", args, { cwd: dir, env: { PATH: "/usr/bin:/bin" } });
        const digest = digestOf(fs.readFileSync(output));
        expect(ran.outputs).toEqual([{ path: output, digest, executable: false }]);
      } finally {
        fs.rmSync(dir, { recursive: true });
      }
    },
  );
}

/** What a command prints outside of any sandbox. */
async function runHere(
  { processes }: World,
  argv: readonly [string, ...string[]],
  cwd: string,
): Promise<string> {
  const { stdout } = await processes.run(
    { argv, env: { PATH: "/usr/bin:/bin" }, cwd, timeoutMs: 20_000, outputMaxBytes: 1e6 },
    never,
  );
  return new TextDecoder().decode(stdout);
}

function visibilityContract(world: GetWorld, scripted: Scripted): void {
  test("a command sees its inputs and nothing else of the machine", async () => {
    const { out, err } = await world().run(
      scripted("ls /; cat /etc/passwd; ls /proc/1/root/ /proc/1/root/etc; ls /proc | head -3"),
    );
    const seen = out.split("\n");
    const top = fs.readdirSync("/").filter((name) => !/^(usr|bin|s?bin|lib.*)$/.test(name));
    for (const name of top)
      if (!["dev", "proc", "tmp"].includes(name)) expect(seen).not.toContain(name);
    expect(err).toMatch(/\/etc\/passwd: No such file/);
    // Whatever the first process inside can see, it cannot be used to look out.
    expect(out).not.toContain("hosts");
    // A process id space of its own: only this command's few.
    expect(out.match(/^[0-9]+$/gm)?.every((pid) => Number(pid) < 20)).toBe(true);
  });

  test("the environment is what the action says, and the working folder is its own", async () => {
    const env = { PATH: "/usr/bin", "odd-name": "two words = 'x'" };
    const { out } = await world().run(scripted("pwd; exec env", { env, argv: ["/usr/bin/env"] }));
    expect(new Set(out.trim().split("\n"))).toEqual(
      new Set(["PATH=/usr/bin", "odd-name=two words = 'x'", "PWD=/mesh-work"]),
    );
    expect((await world().run(scripted("pwd -P"))).out).toBe("/mesh-work\n");
  });

  test("the network cannot be reached, not even this machine's own", async () => {
    const server = createServer((socket) => socket.end("hello"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const script = `exec 3<>/dev/tcp/127.0.0.1/${port} && cat <&3`;
    try {
      const outside = await runHere(world(), ["bash", "-c", script], "/");
      expect(outside).toBe("hello");
      const inside = await world().run(scripted("", { argv: ["/bin/bash", "-c", script] }));
      expect(inside.out).toBe("");
      expect(inside.exitCode).not.toBe(0);
    } finally {
      server.close();
    }
  });

  test("symlinks among the inputs lead to inputs, whatever this machine has there", async () => {
    const inputs: TreeEntry[] = [
      await fileOf(world().store, "/etc/hostname", "inside\n"),
      { kind: "symlink", path: "/mesh-work/up", target: "../../../etc/hostname" },
      { kind: "symlink", path: "/mesh-work/build", target: "/real/build" },
      { kind: "directory", path: "/mesh-work/empty" },
    ];
    const { out, outputs } = await world().run(
      scripted("cat up; ls -a empty; pwd; echo x > /mesh-work/build/x.o", {
        inputs,
        outputPaths: ["/mesh-work/build/x.o"],
      }),
    );
    expect(out).toBe("inside\n.\n..\n/mesh-work\n");
    expect(outputs.map(({ path }) => path)).toEqual(["/mesh-work/build/x.o"]);
  });
}

function writingContract(world: GetWorld, scripted: Scripted): void {
  test("no command can change an input, its mode or the blob behind it", async () => {
    const { store } = world();
    const inputs = [
      await fileOf(store, "/mesh-work/src/a.h", "int a;\n"),
      await fileOf(store, "/mesh-work/out/small.h", "int small;\n"),
      await fileOf(store, "/mesh-work/out/large.rlib", large),
      await fileOf(store, "/mesh-work/out/deep/b.h", "int b;\n"),
    ];
    const attack = (path: string): string =>
      `echo evil > ${path}; chmod 777 ${path}; rm -f ${path}; mv /tmp/x ${path};` +
      `ln ${path} /mesh-work/out/alias && chmod 700 /mesh-work/out/alias && echo evil > /mesh-work/out/alias;`;
    const script = `touch /tmp/x; ${inputs.map(({ path }) => attack(path)).join("\n")}
      chmod 777 /bin/sh /usr/bin/cat; echo evil > /usr/bin/cat; mkdir /new; touch /mesh-work/src/new
      echo 1 > /proc/sys/kernel/core_uses_pid; echo done > /mesh-work/out/o`;
    const before = new Map(inputs.map(({ path }) => [path, blobFile(world(), inputs, path)]));
    const modes = [...before.values()].map((path) => fs.statSync(path).mode);
    const ran = await world().run(scripted(script, { inputs, outputPaths: ["/mesh-work/out/o"] }));
    expect(ran.outputs).toHaveLength(1);
    expect([...before.values()].map((path) => fs.statSync(path).mode)).toEqual(modes);
    for (const entry of inputs)
      if (entry.kind === "file")
        expect(digestOf(fs.readFileSync(before.get(entry.path) ?? ""))).toBe(entry.digest);
    const again = await world().run(
      scripted("cat src/a.h out/deep/b.h; chmod 700 /bin/sh || echo refused", { inputs }),
    );
    expect(again.out).toBe("int a;\nint b;\nrefused\n");
  });

  test("a folder of outputs shows its inputs: small, large, nested and links", async () => {
    const { store } = world();
    const inputs: TreeEntry[] = [
      await fileOf(store, "/mesh-work/out/small", "small\n"),
      await fileOf(store, "/mesh-work/out/large", large),
      await fileOf(store, "/mesh-work/out/sub/in", "in\n"),
      await fileOf(store, "/mesh-work/out/sub/deeper/more/in", "more\n"),
      { kind: "symlink", path: "/mesh-work/out/link", target: "sub/in" },
    ];
    const outputPaths = [
      "/mesh-work/out/o",
      "/mesh-work/out/sub/deeper/o",
      "/mesh-work/out/fresh/dir/o",
    ];
    const script = `cat small sub/in link sub/deeper/more/in; tail -c 3 large
      echo 1 > o; echo 2 > sub/deeper/o; echo 3 > fresh/dir/o; echo 4 > sub/o`;
    const ran = await world().run(scripted(script, { inputs, outputPaths, cwd: "/mesh-work/out" }));
    expect(ran.out).toBe("small\nin\nin\nmore\nxxx");
    expect(await Promise.all(ran.outputs.map(({ digest }) => world().read(digest)))).toEqual([
      "1\n",
      "2\n",
      "3\n",
    ]);
    expect(ran.err).toMatch(/sub\/o: Read-only file system/);
  });

  test("an output that is an input too counts only if the command wrote it", async () => {
    const inputs = [
      await fileOf(world().store, "/mesh-work/lib.a", "old\n"),
      await fileOf(world().store, "/mesh-work/kept.a", large),
    ];
    const outputPaths = ["/mesh-work/kept.a", "/mesh-work/lib.a"];
    const ran = await world().run(scripted("echo new >> lib.a", { inputs, outputPaths }));
    expect(ran.outputs.map(({ path }) => path)).toEqual(["/mesh-work/lib.a"]);
    expect(await world().read(ran.outputs[0]?.digest ?? ran.stdout)).toBe("old\nnew\n");
  });

  test("inputs and outputs below /tmp have their place there, and /tmp stays writable", async () => {
    const inputs = [await fileOf(world().store, "/tmp/p/a.h", "a\n")];
    const ran = await world().run(
      scripted("cat a.h > out/o; echo t > /tmp/t && cat /tmp/t; echo w > /tmp/p/w", {
        ...{ inputs, cwd: "/tmp/p", outputPaths: ["/tmp/p/out/o"] },
      }),
    );
    expect(ran.out).toBe("t\n");
    expect(ran.outputs).toHaveLength(1);
    expect(ran.err).toMatch(/Read-only/);
  });

  test("devices work, and what a command does to them reaches nobody else", async () => {
    const modes = (): number[] => devices.map((name) => fs.statSync(`/dev/${name}`).mode & 0o777);
    const before = modes();
    const script = `head -c 4 /dev/zero > /dev/null && head -c 4 /dev/urandom > /dev/null && echo ok
      chmod 600 /dev/null /dev/zero /dev/urandom; rm -f /dev/null; true`;
    expect((await world().run(scripted(script))).out).toBe("ok\n");
    expect(modes()).toEqual(before);
    expect((await world().run(scripted(script))).out).toBe("ok\n");
  });
}

const devices = ["null", "zero", "full", "random", "urandom"];

/** Where the store has the blob of an input. */
function blobFile({ dir }: World, inputs: readonly TreeEntry[], path: string): string {
  const entry = inputs.find((input) => input.path === path);
  const hex = entry?.kind === "file" ? entry.digest.slice(0, 64) : "";
  return join(dir, "blobs", hex.slice(0, 2), hex.slice(2, 4), hex);
}
