/** The command line as its users meet it: real processes, real sockets, real build tools. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { BuildSummary } from "../node/control-api.ts";
import { type Answer, type ControlServer, isAlive, serveControl } from "../node/control-server.ts";
import { controlSocketPath } from "../node/paths.ts";

const main = join(import.meta.dirname, "main.ts");
const missing = (tool: string) => {
  const isMissing = spawnSync(tool, ["--version"]).error !== undefined;
  if (isMissing) console.warn(`${tool} is missing: its tests are skipped`);
  return isMissing;
};
// The tests of it look at /proc.
const notLinux = process.platform !== "linux";
const noMake = missing("make");
const noCMake = missing("cmake");

let folder = "";
let dataDir = "";
let server: ControlServer | undefined;
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-cli-"));
  dataDir = join(folder, "data");
  mkdirSync(dataDir);
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await server?.close();
  server = undefined;
  // What a failed test left behind.
  for (const file of ["pids", "pid"].map((name) => join(folder, name)).filter(existsSync)) {
    for (const pid of readFileSync(file, "utf8").trim().split("\n").map(Number)) {
      if (pid > 1 && alive(pid)) process.kill(pid, "SIGKILL");
    }
  }
  rmSync(folder, { recursive: true, force: true });
});

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

function start(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  nodeArgs: string[] = [],
): Running {
  const { MESH_BUILD, MESH_SOCKET, MAKEFLAGS, ...clean } = process.env;
  const child = spawn(process.execPath, [...nodeArgs, main, ...args], {
    cwd: folder,
    env: { ...clean, MESH_DIR: dataDir, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  children.push(child);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (bytes: Buffer) => {
    stdout += bytes;
  });
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes;
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
  return { child, ended };
}

function mesh(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const { child, ended } = start(args, env);
  child.stdin?.end();
  return ended;
}

async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    await sleep(10);
  }
}

/** Answers on the control socket of the test's data directory. */
async function serve(answer: Answer): Promise<void> {
  server = await serveControl(controlSocketPath(dataDir), answer);
}

const summary: BuildSummary = {
  tasks: 3,
  local: 1,
  stolen: 2,
  cachedLocal: 0,
  cachedMesh: 0,
  fallback: [
    { reason: "link", count: 2 },
    { reason: "unknown-flag", count: 1 },
  ],
  wallMs: 1,
  clientCpuMs: 2,
  byPeer: { p1: 2 },
};

interface Builds {
  /** Every build request, in order. */
  readonly requests: unknown[];
  /** Ended builds: "end" as agreed, "gone" when the client went away. */
  readonly ends: string[];
  /** Drops every open build. */
  drop(): void;
}

/** A node that takes builds; its folder of compiler names holds a `cc` that says so. */
async function serveBuilds(): Promise<Builds> {
  const shimDir = join(folder, "names");
  mkdirSync(shimDir);
  writeFileSync(join(shimDir, "cc"), '#!/bin/sh\necho "shimmed cc $*"\n');
  chmodSync(join(shimDir, "cc"), 0o755);
  const requests: unknown[] = [];
  const ends: string[] = [];
  const drops: (() => void)[] = [];
  await serve(async (request, session) => {
    const call = (request as { call: string }).call;
    if (call === "status") {
      const load = { slots: 2, busy: 0, queued: 0 };
      const peers = [{ peerId: "p1", name: "node-b", ...load, rttMs: 0.5 }];
      return { status: { peerId: "p0", name: "node-a", ...load, peers, counters: {} } };
    }
    requests.push(request);
    session.send({
      event: "build-started",
      build: "b1",
      shimSocket: join(dataDir, "shim.sock"),
      shim: join(shimDir, "mesh-shim"),
      shimDir,
      shimKind: "c",
      slots: 2,
      jobs: 6,
      peers: 1,
    });
    const dropped = new Promise<never>((_, reject) => {
      drops.push(() => reject(new Error("the node is stopping")));
    });
    try {
      await Promise.race([session.next(), dropped]);
      ends.push("end");
      return { summary };
    } catch (error) {
      ends.push("gone");
      throw error;
    }
  });
  const drop = () => {
    for (const one of drops) one();
  };
  return { requests, ends, drop };
}

test.each([
  [["frobnicate"], /unknown command 'frobnicate'.*mesh --help/],
  [["statu"], /Did you mean status\?/],
  [["build", "--fast"], /unknown option '--fast'.*mesh build --help/],
  [["build", ".", "extra"], /too many arguments/],
  [["build", "--jobs", "many"], /--jobs takes a whole number/],
  [["build", "nowhere"], /there is no such folder/],
  [["build", main], /it is not a folder/],
  [["build", "."], /looked for Cargo\.toml, .*mesh exec -- /],
  [["build", ".", "--summary", "no/such/file"], /looked for/],
  [["exec"], /exec takes a command/],
  [["exec", "--summary", "no/such/file", "--", "true"], /--summary cannot write/],
  [["exec", "--trace", "no/such/file", "--", "true"], /--trace cannot write/],
  [["exec", "--trace", ".", "--", "true"], /--trace cannot write \.: it is a folder/],
  [["why"], /missing required argument/],
  [["why", ""], /why takes a source, an output or a task/],
  [["why", "a.c", "b.c"], /too many arguments/],
  [["cache"], /missing required argument/],
  [["cache", "clear"], /cache takes stats or verify or gc, not 'clear'/],
  [["cache", "stats"], /nothing is kept in /],
  [["status", "--", "x"], /takes nothing after --/],
  [["invite", "--expires", "soon"], /--expires takes a time/],
  [["join", "--slots", "0"], /--slots takes a whole number/],
  [["join", "--label", "x"], /--label takes KEY=VALUE/],
  [["join", "--sandbox", "docker"], /--sandbox takes bwrap or unshare or none/],
  [["join", "--cache-size", "20"], /--cache-size takes a size/],
  [["join", "--listen", "here"], /--listen takes an address/],
  [["join", "--announce", "here"], /--announce takes an address/],
  [["run", "no.json"], /cannot read the job no\.json/],
  [["run"], /missing required argument/],
])("wrong usage, %j, gets one line and exit code 2", async (args, message) => {
  const { code, stdout, stderr } = await mesh(args);
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  expect(stdout).toBe("");
  expect(code).toBe(2);
});

test("an old Node is told so in one line, before anything it cannot read is loaded", async () => {
  const old =
    "data:text/javascript,Object.defineProperty(process,'versions'," +
    "{value:{...process.versions,node:'20.19.0'}})";
  const { child, ended } = start(["build"], {}, ["--import", old]);
  child.stdin?.end();
  expect(await ended).toEqual({
    code: 2,
    stdout: "",
    stderr: expect.stringMatching(/^mesh: Node 20\.19\.0 is too old[^\n]*22\.12[^\n]*\n$/),
  });
});

test("the entry is readable by a Node of 2020: no syntax but what it had", () => {
  const text = readFileSync(main, "utf8");
  expect(text).toMatch(/^#!\/usr\/bin\/env node\n/);
  expect(text).not.toMatch(/^import|\?\?=|\|\|=|&&=|^await|: string|#[a-z]+ in/m);
});

test("help names every command, and mesh alone shows it as a mistake", async () => {
  const help = await mesh(["--help"]);
  expect(help.code).toBe(0);
  for (const name of [
    "join",
    "build",
    "exec",
    "run",
    "invite",
    "status",
    "peers",
    "doctor",
    "why",
  ]) {
    expect(help.stdout).toMatch(new RegExp(`^  ${name} `, "m"));
  }
  expect(help.stdout).not.toContain("--embedded");
  const alone = await mesh([]);
  expect(alone.code).toBe(2);
  expect(alone.stderr).toContain("Examples:");
});

test.each([["status"], ["peers"], ["invite"], ["leave"]])(
  "%s without a node exits with 3 and says how to start one",
  async (command) => {
    const { code, stderr } = await mesh([command]);
    expect(stderr).toMatch(/^mesh: no node is running for [^\n]*mesh-node join[^\n]*\n$/);
    expect(code).toBe(3);
  },
);

test("the socket of a node that died is no node", async () => {
  const gone = await serveControl(controlSocketPath(dataDir), async () => ({}));
  await gone.close();
  writeFileSync(controlSocketPath(dataDir), "");
  expect((await mesh(["status"])).code).toBe(3);
});

test("status and peers print what the node says, for scripts and for people", async () => {
  const load = { slots: 4, busy: 1, queued: 7 };
  const peer = { peerId: "12D3x", name: "node-b", ...load, rttMs: 0.42 };
  const status = {
    peerId: "12D3a",
    name: "node-a",
    ...load,
    peers: [peer],
    counters: { stolen: 3 },
  };
  const detail = { ...peer, platform: "linux/x86_64", sandbox: "bwrap", labels: { room: "lab" } };
  const peers = [{ ...detail, addrs: ["/ip4/10.0.0.2/tcp/4001/p2p/12D3x"] }];
  await serve(async (request) =>
    (request as { call: string }).call === "status" ? { status } : { peers },
  );
  expect(JSON.parse((await mesh(["status", "--json"])).stdout)).toEqual(status);
  expect(JSON.parse((await mesh(["peers", "--json"])).stdout)).toEqual(peers);
  expect((await mesh(["status"])).stdout).toBe(
    [
      "node-a  12D3a",
      "1 of 4 slots busy, 7 queued, 1 peer",
      "",
      "PEER    SLOTS  BUSY  QUEUED     RTT",
      "node-b      4     1       7  0.4 ms",
      "",
      "since start",
      "stolen       3",
      "",
    ].join("\n"),
  );
  expect((await mesh(["peers"])).stdout).toMatch(
    /^NAME.*\nnode-b +4 +1 +7 +0\.4 ms +linux\/x86_64 +bwrap +room=lab +\/ip4\/10\.0\.0\.2\/tcp\/4001 +12D3x\n$/,
  );
});

test("an invite is alone on stdout, and a node's refusal is one line and exit code 1", async () => {
  let refuse = false;
  await serve(async () => {
    if (refuse) throw new Error("this node belongs to no mesh");
    return { invite: "mesh1-abc", expiresUnixMs: 1_900_000_000_000 };
  });
  expect((await mesh(["invite"])).stdout).toBe("mesh1-abc\n");
  expect(JSON.parse((await mesh(["invite", "--json"])).stdout)).toMatchObject({
    invite: "mesh1-abc",
  });
  refuse = true;
  const { code, stderr } = await mesh(["invite"]);
  expect(stderr).toBe("mesh: this node belongs to no mesh\n");
  expect(code).toBe(1);
});

test("exec passes arguments, stdin, stdout and the exit code through unchanged", async () => {
  await serveBuilds();
  const { child, ended } = start([
    "exec",
    "--",
    "sh",
    "-c",
    'cat; echo "$@"; exit 7',
    "x",
    "a b",
    "--",
    "-j",
  ]);
  child.stdin?.end("from stdin\n");
  const { code, stdout } = await ended;
  expect(stdout).toBe("from stdin\na b -- -j\n");
  expect(code).toBe(7);
});

test("exec without dashes takes the command up to its end, its own -- included", async () => {
  await serveBuilds();
  const { stdout } = await mesh(["exec", "--jobs", "3", "echo", "--jobs", "--", "x"]);
  expect(stdout).toBe("--jobs -- x\n");
});

test("a tool that a signal ends, or that is not there, exits as in a shell", async () => {
  await serveBuilds();
  expect((await mesh(["exec", "--", "sh", "-c", "kill -TERM $$"])).code).toBe(143);
  const { code, stderr } = await mesh(["exec", "--", "no-such-tool"]);
  expect(stderr).toContain("no-such-tool: command not found");
  expect(code).toBe(127);
});

test("a tool's environment leads its compilers to the node", async () => {
  const { requests } = await serveBuilds();
  const flags = ["--jobs", "5", "--no-steal"];
  const { stdout } = await mesh(["exec", ...flags, "--", "sh", "-c", "env; cc -v"]);
  expect(stdout).toContain(`\nPATH=${join(folder, "names")}:`);
  expect(stdout).toContain(`MESH_SOCKET=${join(dataDir, "shim.sock")}\n`);
  expect(stdout).toContain("MESH_BUILD=b1\n");
  expect(stdout).toContain("MESH_JOBS=5\n");
  expect(stdout).toContain("MESH_SLOTS=2\n");
  expect(stdout).toContain("shimmed cc -v\n");
  const how = { steal: false, cacheRead: true, cacheWrite: true, compare: false };
  expect(requests).toEqual([{ call: "build", dir: folder, jobs: 5, ...how }]);
});

test.skipIf(noMake)(
  "build runs make with the mesh's jobs, and says at the end who did what",
  async () => {
    const { ends } = await serveBuilds();
    writeFileSync(
      join(folder, "Makefile"),
      "all: a b\na b:\n\t@cc $@ $(filter -j%,$(MAKEFLAGS))\n",
    );
    const { code, stdout, stderr } = await mesh(["build", ".", "--summary", "s.json", "--", "b"]);
    expect(stdout).toBe("shimmed cc b -j6\n");
    expect(stderr).toMatch(
      /^mesh: make -j6 b: 2 slots here, 1 peer\nmesh: built in \d.*: 3 tasks, 2 on 1 peer \(node-b 2\), 1 here; 1 had to run here \(unknown-flag\)\n$/,
    );
    const { wallMs, ...written } = JSON.parse(readFileSync(join(folder, "s.json"), "utf8"));
    expect(wallMs).toBeGreaterThan(0);
    expect(written).toEqual({ ...summary, wallMs: undefined });
    expect(ends).toEqual(["end"]);
    expect(code).toBe(0);
  },
);

test.skipIf(noMake)("a build that fails exits as make does, with make's own words", async () => {
  await serveBuilds();
  writeFileSync(join(folder, "Makefile"), "all:\n\t@exit 3\n");
  const native = spawnSync("make", { cwd: folder, encoding: "utf8" });
  const { code, stderr } = await mesh(["build"]);
  expect(stderr).toContain(native.stderr);
  expect(code).toBe(2);
});

test.skipIf(noCMake)(
  "a CMake project never records the folder of names, and is built twice in place",
  async () => {
    await serveBuilds();
    writeFileSync(join(folder, "names", "mesh-shim"), '#!/bin/sh\necho "shim $1" >&2\nexec "$@"\n');
    chmodSync(join(folder, "names", "mesh-shim"), 0o755);
    writeFileSync(
      join(folder, "CMakeLists.txt"),
      "cmake_minimum_required(VERSION 3.18)\nproject(x C)\nadd_executable(x x.c)\n",
    );
    writeFileSync(join(folder, "x.c"), "int main(void) { return 0; }\n");
    const first = await mesh(["build", ".", "--", "-DCMAKE_BUILD_TYPE=Release"]);
    expect(first.code).toBe(0);
    expect(first.stdout + first.stderr).toMatch(/shim \/\S*cc\b/);
    const cache = readFileSync(join(folder, "build", "CMakeCache.txt"), "utf8");
    expect(cache).toMatch(/CMAKE_C_COMPILER:FILEPATH=(?!.*names)/);
    expect(cache).toContain(
      `CMAKE_C_COMPILER_LAUNCHER:STRING=${join(folder, "names", "mesh-shim")}`,
    );
    expect(cache).toContain("CMAKE_BUILD_TYPE:STRING=Release");
    const second = await mesh(["build"]);
    expect(second.code).toBe(0);
    expect(second.stderr).not.toContain("configuring");
    expect(existsSync(join(folder, "build", "x"))).toBe(true);
  },
);

test("when the node goes in mid-build, the build goes on and says so once", async () => {
  const builds = await serveBuilds();
  const script = "touch started; while [ ! -e go ]; do sleep 0.05; done; echo built";
  const { child, ended } = start(["exec", "--", "sh", "-c", script]);
  child.stdin?.end();
  await until(() => (existsSync(join(folder, "started")) ? true : undefined));
  builds.drop();
  await until(() => (builds.ends.length > 0 ? true : undefined));
  await sleep(100);
  writeFileSync(join(folder, "go"), "");
  const { code, stdout, stderr } = await ended;
  expect(stdout).toBe("built\n");
  expect(stderr.match(/the node is gone/g)).toHaveLength(1);
  expect(code).toBe(0);
});

test("when no node can be had, the tool runs all the same, after one line", async () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  const { code, stdout, stderr } = await mesh(["exec", "--", "sh", "-c", "env; exit 5"], {
    MESH_DIR: file,
  });
  expect(stderr).toMatch(/^mesh: no node, so this runs without the mesh: [^\n]*\nmesh: sh failed/);
  expect(stdout).not.toContain("MESH_SOCKET");
  expect(code).toBe(5);
});

test("without a node one runs for the command, and leaves nothing running", async () => {
  const socket = controlSocketPath(dataDir);
  const { code, stdout, stderr } = await mesh(["exec", "--", "sh", "-c", "echo $MESH_SLOTS"]);
  expect(stderr).toContain("no node was running, so one runs for this build");
  expect(Number(stdout)).toBeGreaterThan(0);
  expect(code).toBe(0);
  expect(await isAlive(socket)).toBe(false);
  expect(existsSync(join(dataDir, "mesh.json"))).toBe(false);
});

test("of two nodes started at once on one directory, one runs and the other says so", async () => {
  const both = [1, 2].map(() => start(["join", "--embedded", "--json"]));
  const firsts = both.map(({ child }) => {
    return new Promise<string>((resolve) => {
      child.stdout?.once("data", (bytes: Buffer) => resolve(`${bytes}`));
    });
  });
  const said = (await Promise.all(firsts)).map((line) => JSON.parse(line));
  expect(said.map(({ event }) => event).sort()).toEqual(["failed", "ready"]);
  expect(said.find(({ event }) => event === "failed")).toMatchObject({ code: "in-use" });
  for (const { child } of both) child.stdin?.end();
  const codes = await Promise.all(both.map(async ({ ended }) => (await ended).code));
  expect(codes.sort()).toEqual([0, 1]);
});

test("a command that finds a node starting waits until it is ready", async () => {
  const { child, ended } = start(["join", "--embedded", "--json"]);
  const socket = controlSocketPath(dataDir);
  await until(() => (existsSync(socket) ? true : undefined));
  const { code, stderr } = await mesh(["status", "--json"]);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  child.stdin?.end();
  await ended;
});

test("a node that meets a bug of ours says so in one line and ends in order, with 1", async () => {
  const bug = "process.on('SIGUSR2', function bug() { throw new Error('boom') })";
  const { child, ended } = start(["join", "--embedded"], {}, [
    "--import",
    `data:text/javascript,${encodeURIComponent(bug)}`,
  ]);
  await new Promise((resolve) => child.stdout?.once("data", resolve));
  child.kill("SIGUSR2");
  const { code, stdout, stderr } = await ended;
  expect(stderr).toMatch(
    /^mesh: this is a bug in mesh-node, please report it: boom [^\n]*bug[^\n]*\n$/,
  );
  expect(stdout).not.toContain("left");
  expect(code).toBe(1);
  // In order: a node that just ends leaves its socket.
  expect(existsSync(controlSocketPath(dataDir))).toBe(false);
});

test("a folder with something else in it is not made a data directory", async () => {
  writeFileSync(join(dataDir, "letter.txt"), "");
  chmodSync(dataDir, 0o755);
  const { code, stderr } = await mesh(["join", "--embedded"]);
  expect(stderr).toMatch(/^mesh: .* is not empty and is not a node's data directory; choose/);
  expect(code).toBe(2);
  expect(statSync(dataDir).mode & 0o777).toBe(0o755);
});

test.skipIf(notLinux)("a command that is killed takes its node along", async () => {
  const socket = controlSocketPath(dataDir);
  const { child, ended } = start(["exec", "--", "sh", "-c", "echo $$ > pid; sleep 1000"]);
  const pid = await until(() => {
    const file = join(folder, "pid");
    return existsSync(file) ? Number(readFileSync(file, "utf8")) || undefined : undefined;
  });
  expect(await isAlive(socket)).toBe(true);
  child.kill("SIGKILL");
  // The tool itself lives on, as it would had a shell of its own been killed.
  for (const one of childrenOf(pid)) process.kill(one, "SIGKILL");
  await ended;
  while (await isAlive(socket)) await sleep(20);
});

const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);

test.skipIf(process.getuid?.() !== 0)("a socket of another user's is not talked to", async () => {
  await serveBuilds();
  chownSync(controlSocketPath(dataDir), 12_345, 12_345);
  const { code, stderr } = await mesh(["status"]);
  expect(stderr).toMatch(/belongs to another user \(uid 12345\)/);
  expect(code).toBe(1);
  const built = await mesh(["exec", "--", "echo", "built"]);
  expect(built.stdout).toBe("built\n");
  expect(built.stderr).toContain("no node, so this runs without the mesh");
});

/** A node that runs jobs by copying their input; `calls` gets the requests. */
async function serveJobs(calls: unknown[]): Promise<void> {
  await serve(async (request, session) => {
    calls.push(request);
    const { input, output } = request as { input: string; output: string };
    session.send({ event: "progress", id: "j1", done: 0, total: 3 });
    writeFileSync(output, `<${readFileSync(input, "utf8")}>`);
    return { result: { id: "j1", chunks: 3, byPeer: { here: 3 } } };
  });
}

test("run hands the job to the node with absolute paths", async () => {
  const calls: unknown[] = [];
  await serveJobs(calls);
  const manifest = { module: "m.wasm", memoryMiB: 64 };
  writeFileSync(join(folder, "job.json"), JSON.stringify(manifest));
  writeFileSync(join(folder, "m.wasm"), "");
  writeFileSync(join(folder, "in"), "text");
  const { code, stderr } = await mesh(["run", "job.json", "--input", "in", "--output", "out"]);
  expect(calls).toEqual([
    {
      call: "run",
      module: join(folder, "m.wasm"),
      manifest,
      input: join(folder, "in"),
      output: join(folder, "out"),
    },
  ]);
  expect(stderr).toMatch(/^mesh: done in .*: 3 chunks \(here 3\)\n$/);
  expect(readFileSync(join(folder, "out"), "utf8")).toBe("<text>");
  expect(code).toBe(0);
});

test("run without files works between pipes", async () => {
  await serveJobs([]);
  writeFileSync(join(folder, "job.json"), '{"module":"m.wasm"}');
  writeFileSync(join(folder, "m.wasm"), "");
  const { child, ended } = start(["run", "job.json"]);
  child.stdin?.end("piped");
  expect(await ended).toMatchObject({ code: 0, stdout: "<piped>" });
});

test("a job file that is wrong is named with its fault", async () => {
  writeFileSync(join(folder, "job.json"), '{"modul":"m.wasm"}');
  const { code, stderr } = await mesh(["run", "job.json", "--input", "job.json"]);
  expect(stderr).toMatch(/^mesh: job\.json is no job manifest: [^\n]*module[^\n]*\n$/);
  expect(code).toBe(1);
});

const alive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
};

test.skipIf(notLinux).each(["SIGINT", "SIGTERM"] as const)(
  "%s ends everything the tool started, also what ignores it, and cancels the build",
  async (signal) => {
    const { ends } = await serveBuilds();
    // The middle shell goes at once and leaves an orphan behind; the last process is deaf.
    const script =
      "sh -c 'sleep 1000 & echo $! >> pids'; (trap '' INT TERM; sleep 1001 & echo $! >> pids; wait) & echo $! >> pids; wait";
    const { child, ended } = start(["exec", "--", "sh", "-c", script]);
    const pids = await until(() => {
      const file = join(folder, "pids");
      const lines = existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
      return lines.length === 3 ? lines.map(Number) : undefined;
    });
    child.kill(signal);
    const { code, stderr } = await ended;
    expect(pids.filter(alive)).toEqual([]);
    expect(stderr).toMatch(/mesh: stopped: [3-5] processes\n$/);
    expect(code).toBe(signal === "SIGINT" ? 130 : 143);
    await until(() => (ends.length > 0 ? true : undefined));
    expect(ends).toEqual(["gone"]);
  },
);
