import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { textOf } from "../base/bytes.ts";
import type { Processes, RunResult, RunSpec } from "./host.ts";
import { createProcesses } from "./processes.ts";

const env = { PATH: "/usr/local/bin:/usr/bin:/bin" };
const hasBwrap = spawnable("bwrap");
if (!hasBwrap) console.log("skipped: the sandbox test needs bwrap");

let folder = "";
let processes: Processes;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-processes-"));
  processes = createProcesses();
});

afterAll(async () => {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
});

function shell(script: string, more: Partial<RunSpec> = {}): RunSpec {
  return {
    argv: ["sh", "-c", script],
    env,
    cwd: folder,
    timeoutMs: 60_000,
    outputMaxBytes: 1_000_000,
    ...more,
  };
}

function run(script: string, more: Partial<RunSpec> = {}): Promise<RunResult> {
  return processes.run(shell(script, more), new AbortController().signal);
}

test("a command's output, exit code and folder are as in a shell", async () => {
  const result = await run("pwd; echo problem >&2; exit 3");
  expect(textOf(result.stdout)).toBe(`${folder}\n`);
  expect(textOf(result.stderr)).toBe("problem\n");
  expect(result).toMatchObject({ exitCode: 3, signal: undefined, timedOut: false });
  expect(result.stdout.constructor).toBe(Uint8Array);
  expect(result.wallMs).toBeGreaterThan(0);
});

test("the environment is the one given and nothing more", async () => {
  const { stdout } = await run("env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort", {
    env: { ...env, GIVEN: "a b" },
  });
  expect(textOf(stdout)).toBe(`GIVEN=a b\nPATH=${env.PATH}\n`);
});

test("a command killed by a signal ends as shells report it", async () => {
  expect(await run("kill -TERM $$")).toMatchObject({ exitCode: 143, signal: "SIGTERM" });
});

test("commands start in a process other than this one, each leading its own group", async () => {
  const [parent, self, group] = textOf(
    (await run("echo $PPID $$ $(ps -o pgid= -p $$)")).stdout,
  ).split(/\s+/);
  expect(parent).not.toBe(String(process.pid));
  expect(group).toBe(self);
});

test("what cannot be started is code io with the errno first, and names what is missing", async () => {
  const failing = (more: Partial<RunSpec>) => run("true", more).catch((error: unknown) => error);
  expect(await failing({ argv: ["no-such-tool"] })).toMatchObject({
    code: "io",
    message: 'ENOENT: cannot run "no-such-tool"',
  });
  expect(await failing({ argv: [folder] })).toMatchObject({
    code: "io",
    message: expect.stringMatching(/^EACCES: /),
  });
  expect(await failing({ cwd: `${folder}/gone` })).toMatchObject({
    code: "io",
    message: `ENOENT: cannot run "${folder}/gone"`,
  });
  expect(await failing({ argv: ["true", "x".repeat(3_000_000)] })).toMatchObject({
    code: "io",
    message: expect.stringMatching(/^E2BIG: /),
  });
  expect(await failing({ argv: ["true", "\0"] })).toMatchObject({ code: "io" });
});

test("input reaches the command whole, and one that does not read it does no harm", async () => {
  const stdin = new Uint8Array(3_000_000).fill(97);
  const counted = await run("wc -c", { stdin });
  expect(textOf(counted.stdout).trim()).toBe("3000000");
  expect((await run("exec true", { stdin })).exitCode).toBe(0);
  expect(textOf((await run("cat")).stdout)).toBe("");
});

test("large output arrives whole up to the limit", async () => {
  const script = "head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2";
  const result = await run(script, { outputMaxBytes: 5_000_000 });
  expect(result).toMatchObject({ exitCode: 0, outputOverflow: false });
  expect(result.stdout.byteLength).toBe(5_000_000);
  expect(result.stderr.byteLength).toBe(5_000_000);
});

test.each(["", ">&2"])("one byte over the limit kills the command (%s)", async (redirect) => {
  const result = await run(`(head -c 1001 /dev/zero; sleep 1000) ${redirect}`, {
    outputMaxBytes: 1000,
  });
  expect(result).toMatchObject({ exitCode: 137, outputOverflow: true, timedOut: false });
  expect(result.stdout.byteLength + result.stderr.byteLength).toBe(1000);
});

test("stderr streams in order while the command still runs", async () => {
  const seen: string[] = [];
  const answer = join(folder, "go-on");
  const result = await run(
    `i=0; while [ $i -lt 50 ]; do echo line $i >&2; i=$((i+1)); done
     while [ ! -e ${answer} ]; do sleep 0.01; done; echo last >&2`,
    {
      onStderr(bytes) {
        seen.push(textOf(bytes));
        // The command waits for this: it could not end if stderr came only at the end.
        if (seen.join("").includes("line 49")) execFileSync("touch", [answer]);
      },
    },
  );
  const lines = Array.from({ length: 50 }, (_, index) => `line ${index}\n`).join("");
  expect(seen.join("")).toBe(`${lines}last\n`);
  expect(textOf(result.stderr)).toBe(seen.join(""));
});

test("a timeout kills the command and what it has started", async () => {
  const result = await run(family("timeout"), { timeoutMs: 300 });
  expect(result).toMatchObject({ exitCode: 137, signal: "SIGKILL", timedOut: true });
  expectGone("timeout");
});

test("a timeout longer than a machine timer can count is not a short one", async () => {
  expect(await run("sleep 0.05", { timeoutMs: 1e12 })).toMatchObject({ timedOut: false });
});

test("an abort kills the whole group and rejects with the signal's reason", async () => {
  const stop = new AbortController();
  const running = processes.run(
    shell(family("abort"), { onStderr: () => stop.abort("not needed") }),
    stop.signal,
  );
  await expect(running).rejects.toBe("not needed");
  expectGone("abort");
  await expect(processes.run(shell("true"), stop.signal)).rejects.toBe("not needed");
});

test("an abort is answered only when the last of the group is gone, however long it takes", async () => {
  const stop = new AbortController();
  // dd fills 200 MB and then waits for a reader; it takes a while to die and holds no output.
  const slow = "dd if=/dev/zero bs=200M count=1 2>&-";
  const reader = "(head -c 1 >&2; exec sleep 1000)";
  let group = "";
  const spec = shell(`echo $$ >&2; ${slow} | ${reader} >&-`, {
    onStderr(bytes) {
      group += textOf(bytes);
      if (group.endsWith("\0")) stop.abort("now");
    },
  });
  await expect(processes.run(spec, stop.signal)).rejects.toBe("now");
  expect(membersOf(Number.parseInt(group, 10))).toEqual([]);
});

test("what a command leaves running in its group ends with it", async () => {
  const result = await run(`${family("left")} exit 0`.replace("wait;", ""));
  expect(result).toMatchObject({ exitCode: 0, timedOut: false });
  expectGone("left");
});

test("processor time is that of the whole tree", async () => {
  const { cpuMs, wallMs } = await run("(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done) & wait");
  if (process.platform !== "linux") expect(cpuMs).toBeUndefined();
  else expect(cpuMs).toBeGreaterThan(0);
  expect(cpuMs ?? 0).toBeLessThan(wallMs + 100);
});

test("of commands more than allowed one is refused, and room is made when one ends", async () => {
  const narrow = createProcesses({ runMax: 1, startNow: true });
  const stop = new AbortController();
  const first = narrow.run(shell("sleep 1000"), stop.signal);
  const second = narrow.run(shell("true"), stop.signal);
  await expect(second).rejects.toMatchObject({ code: "limit" });
  stop.abort("end");
  await expect(first).rejects.toBe("end");
  expect(await narrow.run(shell("true"), new AbortController().signal)).toMatchObject({
    exitCode: 0,
  });
  await narrow.close();
});

test("close ends what runs with code cancelled, and nothing starts afterwards", async () => {
  const closing = createProcesses();
  const started = Promise.withResolvers<void>();
  const running = closing.run(
    shell(family("close"), { onStderr: () => started.resolve() }),
    new AbortController().signal,
  );
  const failed = expect(running).rejects.toMatchObject({ code: "cancelled" });
  await started.promise;
  await closing.close();
  await failed;
  await untilGone("close");
  const after = closing.run(shell("true"), new AbortController().signal);
  await expect(after).rejects.toMatchObject({ code: "cancelled" });
});

test("when the spawner dies its commands end with code io, and the next run has a new one", async () => {
  const own = createProcesses();
  const spawnerOf = Promise.withResolvers<number>();
  const running = own.run(
    shell(`echo $PPID >&2; ${family("spawner")}`, {
      onStderr: (bytes) => spawnerOf.resolve(Number.parseInt(textOf(bytes), 10)),
    }),
    new AbortController().signal,
  );
  const failed = expect(running).rejects.toMatchObject({
    code: "io",
    message: expect.stringContaining("SIGKILL"),
  });
  process.kill(await spawnerOf.promise, "SIGKILL");
  await failed;
  await untilGone("spawner");
  const next = await own.run(shell("echo $PPID"), new AbortController().signal);
  expect(Number(textOf(next.stdout))).not.toBe(await spawnerOf.promise);
  await own.close();
});

test("Ctrl-C and polite stops do not end the spawner before its node", async () => {
  const result = await run("kill -INT $PPID; kill -TERM $PPID; kill -HUP $PPID; echo still");
  expect(textOf(result.stdout)).toBe("still\n");
  expect((await run("exit 7")).exitCode).toBe(7);
});

test("an idle spawner does not keep the program alive", () => {
  const code = `
    const processes = createProcesses({ runMax: 1, startNow: true });
    const spec = { argv: ["true"], env: {}, cwd: "/", timeoutMs: 1e4, outputMaxBytes: 10 };
    await processes.run(spec, new AbortController().signal);
    console.log("ran");
  `;
  expect(runNode(code)).toBe("ran\n");
});

test("kill -9 of the node leaves nothing behind", async () => {
  await expectNoSurvivors("killed", ["sh", "-c", family("killed")]);
});

test.skipIf(!hasBwrap)("kill -9 of the node leaves nothing of a sandboxed command", async () => {
  const walls = ["--bind", "/", "/", "--dev", "/dev", "--unshare-all", "--die-with-parent"];
  await expectNoSurvivors("jailed", [
    "bwrap",
    ...walls,
    "--new-session",
    "sh",
    "-c",
    family("jailed"),
  ]);
});

test.skipIf(!hasBwrap)("a sandboxed command outlives the call that started it", async () => {
  const argv = ["bwrap", "--bind", "/", "/", "--unshare-all", "--die-with-parent"] as const;
  // The spawner stays the parent, so the wish to die with it must not come true early.
  const result = await run("", { argv: [...argv, "sh", "-c", "sleep 0.3; echo done"] });
  expect(textOf(result.stdout)).toBe("done\n");
});

/** A command with a child and a grandchild, each with `mark` on its command line. */
function family(mark: string): string {
  const sleeper = `exec -a ${markOf(mark)} sleep 1000`;
  return `bash -c '(${sleeper}) & ${sleeper}' & echo up >&2; wait;`;
}

function markOf(mark: string): string {
  return `mesh-test-${process.pid}-${mark}`;
}

function survivors(mark: string): readonly string[] {
  return readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, "latin1").startsWith(markOf(mark));
    } catch {
      return false;
    }
  });
}

/** The processes of a group that have not ended; the name of one that is ending is gone already. */
function membersOf(group: number): readonly string[] {
  return readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      const [state, , pgrp] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(pgrp) === group && state !== "Z";
    } catch {
      return false;
    }
  });
}

function expectGone(mark: string): void {
  expect(survivors(mark)).toEqual([]);
}

async function untilGone(mark: string): Promise<void> {
  await expect.poll(() => survivors(mark), { timeout: 10_000 }).toEqual([]);
}

/** Starts a node that runs `argv`, kills it without warning, and looks for what is left. */
async function expectNoSurvivors(mark: string, argv: readonly string[]): Promise<void> {
  const code = `
    const processes = createProcesses();
    await processes.run(
      {
        argv: ${JSON.stringify(argv)},
        env: ${JSON.stringify(env)},
        cwd: "/",
        timeoutMs: 60000,
        outputMaxBytes: 1000,
        onStderr: () => console.log("up"),
      },
      new AbortController().signal,
    );
  `;
  const node = spawn(process.execPath, ["--input-type=module", "-e", importing(code)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const died = new Promise((resolve) => node.once("exit", resolve));
  await new Promise((resolve) => node.stdout.once("data", resolve));
  await expect.poll(() => survivors(mark).length).toBe(2);
  node.kill("SIGKILL");
  await died;
  await untilGone(mark);
}

function importing(code: string): string {
  const url = new URL("./processes.ts", import.meta.url);
  return `const { createProcesses } = await import(${JSON.stringify(url)});${code}`;
}

function runNode(code: string): string {
  return execFileSync(process.execPath, ["--input-type=module", "-e", importing(code)], {
    encoding: "utf8",
    timeout: 20_000,
  });
}

function spawnable(tool: string): boolean {
  return env.PATH.split(":").some((path) => existsSync(join(path, tool)));
}
