import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import type { ShimRun } from "./shim-protocol.ts";
import type { ShimInvocation, ShimLink } from "./shim-server.ts";
import { createWorld, hasCc, type World } from "./shim-world.contract.ts";

const nothing = new Uint8Array(0);
const never = new AbortController().signal;

describe.each(["c", "node"] as const)("the %s shim", (kind) => {
  if (kind === "c" && !hasCc) return;
  let world: World;
  beforeEach(() => {
    world = createWorld(kind);
  });
  afterEach(() => world.close());

  /** Serves one shim after the other with `answer`. */
  async function serve(
    answer: (link: ShimLink, invocation: ShimInvocation, gone: AbortSignal) => Promise<unknown>,
  ): Promise<ShimInvocation[]> {
    const heard: ShimInvocation[] = [];
    await world.serve(async (invocation, link, gone) => {
      heard.push(invocation);
      await answer(link, invocation, gone);
    });
    return heard;
  }
  const without = (...names: string[]): Record<string, string> =>
    Object.fromEntries(Object.entries(world.env).filter(([name]) => !names.includes(name)));

  test("is the compiler where there is no mesh", async () => {
    world.compiler("gcc", 'echo "$@"; echo "inside=$MESH_INSIDE"; echo oops >&2; exit 3');
    const env = without("MESH_SOCKET");
    const launched = await world.run([world.shim, "gcc", "-c", "a b.c", ""], { env });
    expect(launched).toMatchObject({ code: 3, stderr: "oops\n" });
    expect(launched.stdout).toMatch(/^-c a b\.c \n/);
    const masked = await world.run([join(world.masquerade, "gcc"), "-c"], { env });
    expect(masked).toMatchObject({ code: 3, stderr: "oops\n" });
    expect(masked.stdout).toMatch(/^-c\n/);
  });

  test("asks nobody when a compiler that it started calls another", async () => {
    world.compiler("gcc", "echo inner");
    world.compiler("c++", "gcc -c x.c");
    const heard = await serve((link) => link.run([], false, never));
    expect((await world.run([join(world.masquerade, "c++")])).stdout).toBe("inner\n");
    expect(heard.map(({ compiler }) => compiler)).toEqual([join(world.real, "c++")]);
  });

  test("compiles by itself when nobody listens", async () => {
    world.compiler("gcc", "echo done");
    expect(await world.run([world.shim, "gcc"])).toMatchObject({ code: 0, stdout: "done\n" });
    writeFileSync(world.socketPath, "not a socket");
    expect(await world.run([world.shim, "gcc"])).toMatchObject({ code: 0, stdout: "done\n" });
  });

  test("says that a compiler is missing as a shell does", async () => {
    const missing = await world.run([world.shim, "gcc-77"]);
    expect(missing).toMatchObject({ code: 127, stderr: expect.stringContaining("not found") });
  });

  test("never takes itself or another shim for the compiler", async () => {
    const other = createWorld("c");
    try {
      world.compiler("gcc", "echo real");
      const path = `${world.masquerade}:${other.masquerade}`;
      const env = { ...without("MESH_SOCKET"), PATH: `${path}:${world.real}:/bin` };
      const found = await world.run([join(world.masquerade, "gcc")], { env });
      expect(found).toMatchObject({ stdout: "real\n", code: 0 });
      const hidden = { ...env, PATH: path };
      // The script of the Node shim needs no PATH to start: it names its interpreter.
      const lost = await world.run([join(world.masquerade, "gcc")], { env: hidden });
      expect(lost.code).toBe(127);
    } finally {
      await other.close();
    }
  });

  test("tells the node who calls what, where and how", async () => {
    const gcc = world.compiler("gcc", "exit 0");
    const heard = await serve((link) => link.exit(0, nothing, nothing));
    const own = { MESH_COLOR: "1", MESH_SLOTS: "1", MESH_JOBS: "9", MESH_CLIENT: "b1-7" };
    const env = { ...world.env, ...own, LANG: "C", MESH_SIZE: "3" };
    await world.run(["/bin/sh", "-c", `umask 027; exec ${world.shim} gcc -c 'ü.c' ''`], { env });
    expect(heard).toMatchObject([
      {
        args: ["-c", "ü.c", ""],
        compiler: gcc,
        cwd: world.folder,
        env: { LANG: "C" },
        umask: 0o27,
        build: "b1",
        stderrIsTty: false,
        wantsColour: true,
        inexact: false,
      },
    ]);
    const names = Object.keys(heard[0]?.env ?? {});
    expect(names.filter((name) => name.startsWith("MESH_"))).toEqual(["MESH_SIZE"]);
  });

  test("runs the compiler when told to, and both sides learn how it ended", async () => {
    world.compiler("gcc", 'echo "$@"; exit 41');
    const codes: number[] = [];
    await serve(async (link) => codes.push((await link.run(["-first"], false, never)).exitCode));
    const ended = await world.run([world.shim, "gcc", "-c"]);
    expect(ended).toMatchObject({ code: 41, stdout: "-first -c\n" });
    expect(codes).toEqual([41]);
  });

  test("dies of the signal that its compiler died of", async () => {
    world.compiler("gcc", "kill -SEGV $$");
    const codes: number[] = [];
    await serve(async (link) => codes.push((await link.run([], false, never)).exitCode));
    expect(await world.run([world.shim, "gcc"])).toMatchObject({ code: null, signal: "SIGSEGV" });
    expect(codes).toEqual([139]);
  });

  test("prints a peer's output and ends with its exit code", async () => {
    world.compiler("gcc", "echo never");
    const long = "x".repeat(3_000_000);
    await serve(async (link) => {
      link.write(2, utf8("early\n"));
      await link.exit(5, utf8(long), utf8("late\n"));
    });
    const ended = await world.run([world.shim, "gcc"]);
    expect(ended).toEqual({ code: 5, signal: null, stdout: long, stderr: "early\nlate\n" });
  });

  test("compiles by itself when the node hangs up before the end", async () => {
    world.compiler("gcc", "echo mine");
    await serve(async () => {});
    expect(await world.run([world.shim, "gcc"])).toMatchObject({ code: 0, stdout: "mine\n" });
  });

  test.each([
    ["the node hangs up", async () => {}],
    ["the node has it run here", (link: ShimLink) => link.run([], false, never)],
  ])("shows nothing twice when %s after early output", async (_, then) => {
    world.compiler("gcc", "printf 'note 1\\nnote 2\\n' >&2; echo out; exit 2");
    await serve((link) => {
      link.write(2, utf8("note 1\nno"));
      return then(link);
    });
    const ended = await world.run([world.shim, "gcc"]);
    expect(ended).toMatchObject({ code: 2, stdout: "out\n", stderr: "note 1\nnote 2\n" });
  });

  test("shows everything when its own compiler says something else", async () => {
    world.compiler("gcc", "echo note 1 >&2; sleep 0.1; echo error 3 >&2; exit 1");
    await serve(async (link) => link.write(2, utf8("note 1\nnote 2\n")));
    const ended = await world.run([world.shim, "gcc"]);
    expect(ended).toMatchObject({ code: 1, stderr: "note 1\nnote 2\nnote 1\nerror 3\n" });
  });

  test("tells a node that asks what the compiler printed, and shows it all the same", async () => {
    world.compiler("gcc", "echo out; echo warning >&2; exit $1");
    const runs: ShimRun[] = [];
    await serve(async (link) => runs.push(await link.run([], true, never)));
    expect(await world.run([world.shim, "gcc", "3"])).toMatchObject({
      code: 3,
      stdout: "out\n",
      stderr: "warning\n",
    });
    expect(await world.run([world.shim, "gcc", "0"])).toMatchObject({ code: 0, stdout: "out\n" });
    const output = { stdout: utf8("out\n"), stderr: utf8("warning\n") };
    expect(runs).toMatchObject([
      { exitCode: 3, output },
      { exitCode: 0, output },
    ]);
  });

  test("tells all that its compiler printed, what the build has seen already included", async () => {
    world.compiler("gcc", "printf 'note 1\\nnote 2\\n' >&2");
    const outputs: unknown[] = [];
    await serve(async (link) => {
      link.write(2, utf8("note 1\nno"));
      outputs.push((await link.run([], true, never)).output);
      link.release();
    });
    expect(await world.run([world.shim, "gcc"])).toMatchObject({ stderr: "note 1\nnote 2\n" });
    expect(outputs).toEqual([{ stdout: nothing, stderr: utf8("note 1\nnote 2\n") }]);
  });

  test.each([
    ["more than anybody wants to keep", "head -c 1048577 /dev/zero", 1_048_577],
    ["a part, before it was killed", "printf x; kill -9 $$", 1],
  ])("tells nothing of an output of %s", async (_, script, sizeBytes) => {
    world.compiler("gcc", script);
    const outputs: unknown[] = [];
    await serve(async (link) => outputs.push((await link.run([], true, never)).output));
    expect((await world.run([world.shim, "gcc"])).stdout).toHaveLength(sizeBytes);
    expect(outputs).toEqual([undefined]);
  });

  test("after a captured success, the build waits until the node lets it go on", async () => {
    world.compiler("gcc", "exit 0");
    const done = Promise.withResolvers<ShimLink>();
    await serve(async (link, _, gone) => {
      await link.run([], true, never);
      done.resolve(link);
      await new Promise((resolve) => gone.addEventListener("abort", resolve));
    });
    const running = world.start([world.shim, "gcc"]);
    const link = await done.promise;
    // Long enough for the shim to end, if it did not wait.
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(running.child.exitCode).toBe(null);
    link.release();
    expect(await running.ended).toMatchObject({ code: 0 });
    link.release();
    expect(world.troubles).toEqual([]);
  });

  test("waits for nobody after a failure, or when its build is stopped", async () => {
    world.compiler("gcc", "exit $1");
    const done = Promise.withResolvers<void>();
    await serve(async (link, { args }, gone) => {
      await link.run([], true, never);
      if (args[0] === "0") done.resolve();
      await new Promise((resolve) => gone.addEventListener("abort", resolve));
    });
    expect(await world.run([world.shim, "gcc", "4"])).toMatchObject({ code: 4 });
    const running = world.start([world.shim, "gcc", "0"]);
    await done.promise;
    running.child.kill("SIGTERM");
    expect(await running.ended).toMatchObject({ code: 0, signal: null });
  });

  test("outlives a node that is killed while it waits", async () => {
    world.compiler("gcc", "echo alone");
    const modules = new URL("..", import.meta.url).href;
    const script = `
      const { createClock } = await import("${modules}host/clock.ts");
      const { createDisk } = await import("${modules}host/disk.ts");
      const { createShimServer } = await import("${modules}compile/shim-server.ts");
      const onInvocation = async (_, link, signal) => {
        link.write(1, Buffer.from("alo"));
        console.log("asked");
        await new Promise(() => {});
      };
      const deps = { disk: createDisk(), clock: createClock(), onInvocation, onTrouble() {} };
      const options = { socketPath: ${JSON.stringify(world.socketPath)} };
      await createShimServer(deps, options, new AbortController().signal);
      console.log("listening");`;
    const node = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      let said = "";
      const until = (word: string): Promise<void> =>
        new Promise((resolve) => {
          const look = (): void => void (said.includes(word) && resolve());
          node.stdout.on("data", look);
          look();
        });
      node.stdout.on("data", (bytes: Buffer) => {
        said += bytes.toString();
      });
      await until("listening");
      const running = world.start([world.shim, "gcc"]);
      await until("asked");
      node.kill("SIGKILL");
      expect(await running.ended).toMatchObject({ code: 0, stdout: "alone\n", stderr: "" });
    } finally {
      node.kill("SIGKILL");
    }
  });

  test("passes arguments that are no UTF-8 on unchanged, and says that it could not tell them", async () => {
    world.compiler("gcc", 'printf %s "$1" | od -An -tx1');
    const heard = await serve((link) => link.run([], false, never));
    const call = `exec ${world.shim} gcc "$(printf 'a\\377b')"`;
    const ended = await world.run(["/bin/sh", "-c", call]);
    expect(heard).toMatchObject([{ inexact: kind === "c" }]);
    // Node cannot hold such an argument: the slower shim passes on a replacement character.
    if (kind === "c") expect(ended.stdout.trim()).toBe("61 ff 62");
  });

  test("stops its compiler when the node says so", async () => {
    const flag = join(world.folder, "up");
    world.compiler(
      "gcc",
      `trap 'echo stopped; exit 7' TERM; : >${flag}; while :; do sleep 0.05; done`,
    );
    const stop = new AbortController();
    const outcome = new Promise((resolve) => {
      void serve((link) => link.run([], false, stop.signal).then(resolve, resolve));
    });
    const running = world.start([world.shim, "gcc"]);
    await waitFor(() => existsSync(flag));
    stop.abort(new Error("enough"));
    expect(await running.ended).toMatchObject({ code: 7, stdout: "stopped\n" });
    expect(await outcome).toEqual(new Error("enough"));
  });

  test("passes a signal meant for the compiler on to it", async () => {
    const flag = join(world.folder, "up");
    world.compiler(
      "gcc",
      `trap 'echo term; exit 9' TERM; : >${flag}; while :; do sleep 0.05; done`,
    );
    await serve((link) => link.run([], false, never));
    const running = world.start([world.shim, "gcc"]);
    await waitFor(() => existsSync(flag));
    running.child.kill("SIGTERM");
    expect(await running.ended).toMatchObject({ code: 9, stdout: "term\n" });
  });

  test("tells the node by its end that nobody waits any more", async () => {
    world.compiler("gcc", "exit 0");
    const ended = new Promise<unknown>((resolve) => {
      void world.serve(
        (_, link, signal) =>
          new Promise((_, reject) => {
            link.write(1, utf8("here"));
            signal.addEventListener("abort", () => {
              resolve(signal.reason.code);
              reject(signal.reason);
            });
          }),
      );
    });
    await waitFor(() => existsSync(world.socketPath));
    const running = world.start([world.shim, "gcc"]);
    await new Promise((resolve) => running.child.stdout?.once("data", resolve));
    running.child.kill("SIGTERM");
    expect(await running.ended).toMatchObject({ signal: "SIGTERM" });
    expect(await ended).toBe("peer-gone");
  });

  test("leaves the descriptors of a jobserver to the compiler", async () => {
    const tokens = join(world.folder, "tokens");
    writeFileSync(tokens, "token");
    world.compiler("gcc", "cat <&5");
    await serve((link) => link.run([], false, never));
    const env = { ...world.env, MAKEFLAGS: "-j --jobserver-auth=5,6" };
    const call = `exec 5<${tokens} 6>/dev/null; exec ${world.shim} gcc`;
    expect((await world.run(["/bin/sh", "-c", call], { env })).stdout).toBe("token");
  });

  test("runs the compiler where the working directory is gone", async () => {
    world.compiler("gcc", "echo ran");
    const heard = await serve((link) => link.run([], false, never));
    const gone = join(world.folder, "gone");
    mkdirSync(gone);
    const call = `rmdir ${gone}; exec ${world.shim} gcc`;
    const ended = await world.run(["/bin/sh", "-c", call], { cwd: gone });
    expect(ended).toMatchObject({ code: 0, stdout: "ran\n" });
    expect(heard).toEqual([]);
  });

  // The first free descriptor is what a careless socket becomes, and then what is printed to.
  test.each(["1>&-", "2>&-", "0<&- 1>&- 2>&-"])("works with streams closed: %s", async (closed) => {
    const proof = join(world.folder, "proof");
    world.compiler("gcc", `echo ran >${proof}`);
    const codes: number[] = [];
    await serve(async (link) => {
      link.write(1, utf8("early"));
      link.write(2, utf8("early"));
      codes.push((await link.run([], false, never)).exitCode);
    });
    await world.run(["/bin/sh", "-c", `exec ${world.shim} gcc ${closed}`]);
    expect(readFileSync(proof, "utf8")).toBe("ran\n");
    expect({ codes, troubles: world.troubles }).toEqual({ codes: [0], troubles: [] });
  });
});

async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
