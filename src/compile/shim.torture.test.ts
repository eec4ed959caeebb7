/** What builds do to a compiler's stand-in, one case each: `shim.test.ts` has the ordinary ways. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { textOf } from "../base/bytes.ts";
import type { ShimRun } from "./shim-protocol.ts";
import type { ShimInvocation } from "./shim-server.ts";
import { createWorld, hasCc, type World } from "./shim-world.contract.ts";

const never = new AbortController().signal;
const hasFullDevice = existsSync("/dev/full");
if (!hasFullDevice) console.warn("a test of the shim is skipped: there is no /dev/full");

describe.each(["c", "node"] as const)("the %s shim", (kind) => {
  if (kind === "c" && !hasCc) return;
  let world: World;
  beforeEach(() => {
    world = createWorld(kind);
  });
  afterEach(() => world.close());

  interface Heard {
    readonly invocation: ShimInvocation;
    readonly run: ShimRun;
  }

  /** Has every compiler run here and tell what it printed. */
  async function serve(): Promise<Heard[]> {
    const heard: Heard[] = [];
    await world.serve(async (invocation, link) => {
      heard.push({ invocation, run: await link.run([], true, never) });
      link.release();
    });
    return heard;
  }
  const sh = (call: string, cwd = world.folder) => world.run(["/bin/sh", "-c", call], { cwd });
  const printed = (heard: readonly Heard[]) =>
    heard.map(({ run: { output } }) => output && [textOf(output.stdout), textOf(output.stderr)]);

  test("a hundred thousand arguments", async () => {
    world.compiler("gcc", 'shift 99999; echo "$# $1"');
    const heard = await serve();
    const args = Array.from({ length: 100_000 }, (_, i) => `-D${i}`);
    const ended = await world.run([world.shim, "gcc", ...args]);
    expect(ended).toMatchObject({ code: 0, stdout: "1 -D99999\n" });
    expect(heard[0]?.invocation.args).toEqual(args);
  });

  test("arguments with spaces, quotes, backslashes, newlines, and empty ones", async () => {
    world.compiler("gcc", `printf '<%s>' "$@"`);
    const heard = await serve();
    const args = ["a b", `"q" 'q'`, "two\nlines\n", "", "\\", "$HOME `x` *", "\t", "é\u2028"];
    const ended = await world.run([world.shim, "gcc", ...args]);
    expect(ended.stdout).toBe(args.map((arg) => `<${arg}>`).join(""));
    expect(heard[0]?.invocation).toMatchObject({ args, inexact: false });
  });

  // Node cannot hold such bytes; protocols/shim.md leaves them to the C shim.
  test.skipIf(kind === "node")(
    "arguments, variables and a folder that are no UTF-8 arrive as they were",
    async () => {
      world.compiler("gcc", `printf '%s|%s|%s' "$1" "$ODD" "$PWD" | od -An -v -tx1`);
      const heard = await serve();
      const odd = `"$(printf 'a\\377b')"`;
      const call = `mkdir ${odd} && cd ${odd} && ODD=${odd} exec ${world.shim} gcc ${odd}`;
      const ended = await sh(call);
      const bytes = ended.stdout.replaceAll(/\s+/g, "");
      expect(bytes).toMatch(/^61ff627c61ff627c.*2f61ff62$/);
      expect(heard[0]?.invocation.inexact).toBe(true);
    },
  );

  test("a working directory that was deleted", async () => {
    world.compiler("gcc", "echo ran; exit 6");
    const heard = await serve();
    const gone = join(world.folder, "gone");
    mkdirSync(gone);
    const ended = await sh(`rmdir ${gone}; exec ${world.shim} gcc`, gone);
    expect(ended).toMatchObject({ code: 6, stdout: "ran\n" });
    expect(heard).toEqual([]);
  });

  // Node opens streams that are closed; the C shim leaves them to the compiler as they are.
  test.skipIf(kind === "node").each(["1>&-", "2>&-", "0<&- 1>&- 2>&-"])(
    "a stream that is closed stays so, and nothing is told: %s",
    async (closed) => {
      const proof = join(world.folder, "proof");
      world.compiler("gcc", `echo 2>&- >&1 && echo 1 >>${proof}; echo >&2 && echo 2 >>${proof}`);
      writeFileSync(proof, "");
      await sh(`exec ${world.real}/gcc ${closed}`);
      const natively = readFileSync(proof, "utf8");
      writeFileSync(proof, "");
      const heard = await serve();
      await sh(`exec ${world.shim} gcc ${closed}`);
      expect(readFileSync(proof, "utf8")).toBe(natively);
      expect(printed(heard)).toEqual([undefined]);
      expect(world.troubles).toEqual([]);
    },
  );

  test.skipIf(kind === "node" || !hasFullDevice)(
    "a stdout that takes nothing fails the compile, as it fails one without a shim",
    async () => {
      world.compiler("gcc", "echo out");
      const heard = await serve();
      const ended = await sh(`exec ${world.shim} gcc >/dev/full`);
      expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining("standard output") });
      expect(heard).toMatchObject([{ run: { exitCode: 1, output: undefined } }]);
    },
  );

  test("a reader of stdout that has gone", async () => {
    const flag = join(world.folder, "flag");
    world.compiler(
      "gcc",
      `while [ -d ${world.folder} ] && [ ! -e ${flag} ]; do sleep 0.02; done; echo out; echo out`,
    );
    const heard = await serve();
    const running = world.start([world.shim, "gcc"]);
    running.child.stdout?.destroy();
    await new Promise((resolve) => running.child.stdout?.once("close", resolve));
    writeFileSync(flag, "");
    const ended = await running.ended;
    if (kind === "c") expect(ended.signal).toBe("SIGPIPE");
    expect(printed(heard).filter((output) => output !== undefined)).toEqual([]);
  });

  test("a stderr that is a full pipe is waited for, and nothing is lost", async () => {
    world.compiler("gcc", "head -c 300000 /dev/zero >&2; echo end >&2");
    const heard = await serve();
    const running = world.start([world.shim, "gcc"]);
    running.child.stderr?.pause();
    // By then the pipe is full, unless somebody keeps what it does not take.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(running.child.exitCode).toBe(null);
    running.child.stderr?.resume();
    const { code, stderr } = await running.ended;
    expect({ code, sizeBytes: stderr.length }).toEqual({ code: 0, sizeBytes: 300_004 });
    expect(heard[0]?.run.output?.stderr.byteLength).toBe(300_004);
  });

  test.skipIf(kind === "node")("a shim that waits for a full pipe can be stopped", async () => {
    world.compiler("gcc", "exec head -c 900000 /dev/zero >&2");
    const heard = await serve();
    // Its reader holds the pipe, and reads nothing before the shim has ended.
    const code = join(world.folder, "code");
    const reader = `while [ -d ${world.folder} ] && [ ! -e ${code} ]; do sleep 0.02; done; cat >/dev/null`;
    const call = `{ ${world.shim} gcc 2>&1 >/dev/null & echo $! >pid; wait $!; echo $? >${code}; } | { ${reader}; }`;
    const running = world.start(["/bin/sh", "-c", call]);
    const pid = join(world.folder, "pid");
    while (!existsSync(pid) || readFileSync(pid, "utf8") === "") await pause(5);
    await pause(300);
    expect(existsSync(code)).toBe(false);
    process.kill(Number(readFileSync(pid, "utf8")), "SIGTERM");
    await running.ended;
    expect(readFileSync(code, "utf8")).toBe("143\n");
    expect(heard).toMatchObject([{ run: { exitCode: 143, output: undefined } }]);
  });

  test("a compiler that reads its source from stdin", async () => {
    world.compiler("gcc", "cat; cat >&2 /dev/null");
    const heard = await serve();
    const source = "int x;\n".repeat(20_000);
    writeFileSync(join(world.folder, "in"), source);
    expect((await sh(`cat in | ${world.shim} gcc -x c -`)).stdout).toBe(source);
    expect((await sh(`${world.shim} gcc -x c - <in`)).stdout).toBe(source);
    expect(printed(heard)).toEqual([
      [source, ""],
      [source, ""],
    ]);
  });

  test("output of any bytes up to the bound is told whole", async () => {
    const every = "printf '\\0\\1\\377\\n'";
    world.compiler("gcc", `${every}; head -c 1048572 /dev/zero >&2`);
    const heard = await serve();
    await world.run([world.shim, "gcc"]);
    const output = heard[0]?.run.output;
    expect(output?.stdout).toEqual(Uint8Array.of(0, 1, 255, 10));
    expect(output?.stderr.byteLength).toBe(1_048_572);
  });

  test("a background process is not waited for, and then nothing is told", async () => {
    const flag = join(world.folder, "running");
    writeFileSync(flag, "");
    world.compiler("gcc", `echo early; (while [ -e ${flag} ]; do sleep 0.02; done) & exit 0`);
    const heard = await serve();
    const running = world.start([world.shim, "gcc"]);
    const code = await new Promise((resolve) => running.child.once("exit", resolve));
    rmSync(flag);
    expect(code).toBe(0);
    expect((await running.ended).stdout).toBe("early\n");
    expect(printed(heard)).toEqual([undefined]);
  });

  test("nor is one that prints without end, faster than anybody reads", async () => {
    const code = join(world.folder, "code");
    // First as much as both pipes hold, so that the shim is behind from the start.
    world.compiler("gcc", "yes '' | head -c 200000; yes & exit 0");
    const heard = await serve();
    const reader = `while [ -d ${world.folder} ] && head -c 65536 | grep -qc ""; do sleep 0.01; done`;
    await sh(`{ ${world.shim} gcc; echo $? >${code}; } | { ${reader}; }`);
    expect(readFileSync(code, "utf8")).toBe("0\n");
    expect(printed(heard)).toEqual([undefined]);
  });

  test.each([
    ["is killed", true],
    ["says nothing", false],
  ])(
    "a node that %s after the compiler's end",
    async (_, killed) => {
      world.compiler("gcc", "echo out");
      const node = await startNode(world.socketPath);
      try {
        const running = world.start([world.shim, "gcc"]);
        await node.heard("done");
        expect(running.child.exitCode).toBe(null);
        if (killed) node.kill();
        expect(await running.ended).toMatchObject({ code: 0, stdout: "out\n", stderr: "" });
      } finally {
        node.kill();
      }
    },
    30_000,
  );
});

const noLinker = spawnSync("gcc", ["--version"]).status !== 0;
if (noLinker) console.warn("a test of the shim is skipped: there is no gcc");

test.skipIf(noLinker || !hasCc)(
  "a compiler that links calls the linker without a second slot",
  async () => {
    const world = createWorld("c");
    try {
      for (const name of ["ld", "ar", "as"]) {
        spawnSync("ln", ["-s", "../mesh-shim", join(world.masquerade, name)]);
      }
      const asked: string[] = [];
      await world.serve(async ({ compiler }, link) => {
        asked.push(compiler);
        await link.run([], false, never);
      });
      writeFileSync(join(world.folder, "a.c"), "int main(void) { return 0; }\n");
      const call = ["gcc", "-B", world.masquerade, "a.c", "-o", "a"] as const;
      expect(await world.run([world.shim, ...call])).toMatchObject({ code: 0 });
      expect(asked).toEqual(["/usr/bin/gcc"]);
      expect(spawnSync(join(world.folder, "a")).status).toBe(0);
    } finally {
      await world.close();
    }
  },
);

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A node in a process of its own that never lets a shim go. */
async function startNode(socketPath: string): Promise<{
  heard(word: string): Promise<void>;
  kill(): void;
}> {
  const modules = new URL("..", import.meta.url).href;
  const script = `
    const { createClock } = await import("${modules}host/clock.ts");
    const { createDisk } = await import("${modules}host/disk.ts");
    const { createShimServer } = await import("${modules}compile/shim-server.ts");
    const never = new AbortController().signal;
    const onInvocation = async (_, link) => {
      await link.run([], true, never);
      console.log("done");
      await new Promise(() => {});
    };
    const deps = { disk: createDisk(), clock: createClock(), onInvocation, onTrouble() {} };
    await createShimServer(deps, { socketPath: ${JSON.stringify(socketPath)} }, never);
    console.log("listening");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (bytes: Buffer) => {
    said += bytes.toString();
  });
  const heard = async (word: string): Promise<void> => {
    while (!said.includes(word)) await pause(5);
  };
  await heard("listening");
  return { heard, kill: () => void child.kill("SIGKILL") };
}
