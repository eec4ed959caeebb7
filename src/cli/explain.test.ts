/** `why`, `cache`, `--trace` and `--compare` as their users meet them: the real program. */
import { type ChildProcess, spawn } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { asPeerId } from "../base/ids.ts";
import { createHistory, historyFolder, type TaskRecord } from "../compile/history.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { BuildSummary } from "../node/control-api.ts";
import { type Answer, type ControlServer, serveControl } from "../node/control-server.ts";
import { controlSocketPath } from "../node/paths.ts";

const main = join(import.meta.dirname, "main.ts");
let folder = "";
let dataDir = "";
let server: ControlServer | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-explain-"));
  dataDir = join(folder, "data");
  mkdirSync(dataDir);
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true, force: true });
});

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function mesh(
  args: readonly string[],
  cwd = folder,
  onStdout: (child: ChildProcess) => void = () => {},
): Promise<Ended> {
  const { MESH_BUILD, MESH_SOCKET, MAKEFLAGS, ...clean } = process.env;
  const child = spawn(process.execPath, [main, ...args], {
    cwd,
    env: { ...clean, MESH_DIR: dataDir },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (bytes: Buffer) => {
    stdout += bytes;
    onStdout(child);
  });
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes;
  });
  return new Promise((resolve) => {
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}

async function serve(answer: Answer): Promise<void> {
  server = await serveControl(controlSocketPath(dataDir), answer);
}

async function remember(...records: readonly Partial<TaskRecord>[]): Promise<void> {
  const history = await createHistory(
    { disk: createDisk(), clock: createClock(), nameOf: () => "beta" },
    { folder: historyFolder(dataDir), recordsMax: 100 },
  );
  for (const [at, more] of records.entries()) {
    const label = more.label ?? "src/a.cc";
    const path = join(folder, label);
    history.add(
      {
        task: `t${at}`,
        build: "b1",
        kind: "c++",
        label,
        outputs: [path.replace(/\.cc$/, ".o")],
        action: digestOf(utf8(`${label} ${at}`)),
        source: "here",
        peer: undefined,
        signer: undefined,
        exitCode: 0,
        whyHere: undefined,
        fallback: undefined,
        wallMs: 5,
        phases: { queueMs: 1, fetchMs: 1, runMs: 2, returnMs: 1 },
        planMs: 1,
        lookupMs: 1,
        endedWallMs: Date.now(),
        kept: undefined,
        ...more,
      },
      {
        argv: ["/usr/bin/g++", "-c", label, ...(at === 0 ? [] : [`-DN=${at}`])],
        env: {},
        cwd: folder,
        outputPaths: [path.replace(/\.cc$/, ".o")],
        inputs: [],
        platform: {},
        timeoutMs: 1,
      },
    );
  }
  await history.close();
}

test("why explains a file without a node, by source or output, from any folder", async () => {
  await remember({}, { source: "there", peer: asPeerId("12D3b") });
  mkdirSync(join(folder, "src"));
  for (const [query, cwd] of [
    ["src/a.cc", folder],
    ["a.cc", join(folder, "src")],
    ["src/a.o", folder],
    [join(folder, "src/a.cc"), "/"],
    ["t1", "/"],
  ] as const) {
    const { code, stdout } = await mesh(["why", query], cwd);
    expect(stdout).toMatch(
      /^src\/a\.cc \(c\+\+\)\n.*ran +on beta \(12D3b\).*argument added: -DN=1/s,
    );
    expect(code).toBe(0);
  }
  const { tasks } = JSON.parse((await mesh(["why", "--json", "src/a.cc"])).stdout);
  expect(tasks).toMatchObject([
    {
      task: "t1",
      peerName: "beta",
      miss: {
        at: "differs",
        earlier: { task: "t0" },
        differences: [{ what: "argument", change: "added", name: "-DN=1" }],
      },
    },
  ]);
});

test("why lists what a short name may mean, and says so when it is nothing", async () => {
  const before = await mesh(["why", "a.cc"]);
  expect(before.stderr).toMatch(/^mesh: nothing is remembered in .*mesh build[^\n]*\n$/);
  expect(before.code).toBe(1);
  await remember({ label: "one/a.cc" }, { label: "two/a.cc" });
  const { code, stdout } = await mesh(["why", "a.cc"], "/");
  expect(stdout).toMatch(/^2 files fit a\.cc:\nFILE.*\n.*two\/a\.cc .*\n.*one\/a\.cc /);
  expect(code).toBe(0);
  const none = await mesh(["why", "b.cc"]);
  expect(none.stderr).toMatch(/^mesh: no compile of b\.cc is remembered[^\n]*\n$/);
  expect(none.code).toBe(1);
  expect(JSON.parse((await mesh(["why", "--json", "b.cc"])).stdout)).toEqual({
    query: "b.cc",
    tasks: [],
  });
});

test("a running node writes down what it remembers before it is explained", async () => {
  const calls: unknown[] = [];
  await serve(async (request) => {
    calls.push(request);
    await remember({});
    return {};
  });
  expect((await mesh(["why", "a.cc"])).stdout).toMatch(/^src\/a\.cc/);
  expect(calls).toEqual([{ call: "history" }]);
});

const stats = {
  ...{ blobs: 12, bytes: 3_400_000, quotaBytes: 20e9, pinned: 0, quarantined: 1 },
  ...{ records: 1, recordBytes: 410, hitsHere: 6, hitsMesh: 1, misses: 3 },
  refused: { "blob-missing": 2, signature: 3 },
};

test("cache stats, verify and gc say what the node says", async () => {
  mkdirSync(join(dataDir, "blobs"));
  const verified = { checked: 12, corrupt: [] as string[], recordsChecked: 1, badRecords: [{}] };
  verified.badRecords = [];
  await serve(async (request, session) => {
    const { what } = request as { what: string };
    session.send({ event: "progress", message: "working" });
    if (what === "stats") return { stats };
    if (what === "verify") return { verified };
    return { collected: { freedBytes: 1_200_000, freedRecordBytes: 0, stats } };
  });
  expect((await mesh(["cache", "stats"])).stdout).toBe(
    [
      "12 files, 3.4 MB of 20.0 GB",
      "1 known result, 410 B",
      "since the node started: 6 hits here, 1 hit in the mesh, 3 misses (70 % hits)",
      "known results refused: signature 3, blob-missing 2",
      `1 damaged file in ${join(dataDir, "quarantine")}`,
      "",
    ].join("\n"),
  );
  expect(JSON.parse((await mesh(["cache", "stats", "--json"])).stdout)).toEqual(stats);
  const fine = await mesh(["cache", "verify"]);
  expect(fine.stdout).toBe("checked 12 files and 1 known result: all are right\n");
  expect(fine.code).toBe(0);
  const digest = digestOf(utf8("x"));
  verified.corrupt = [digest];
  verified.badRecords = [{ action: digest, why: "signature" }];
  const bad = await mesh(["cache", "verify"]);
  expect(bad.stdout).toBe(
    [
      "checked 12 files and 1 known result",
      `damaged, and in ${join(dataDir, "quarantine")} now: 1 file`,
      `  ${digest}`,
      "forgotten: 1 known result",
      `  ${digest}: signature`,
      "",
    ].join("\n"),
  );
  expect(bad.code).toBe(1);
  expect((await mesh(["cache", "gc"])).stdout).toMatch(
    /^freed 1\.2 MB of files\n12 files, 3\.4 MB of 20\.0 GB, 1 known result\n$/,
  );
});

test("a node that refuses a cache call is one line and exit code 1", async () => {
  mkdirSync(join(dataDir, "blobs"));
  await serve(async () => {
    throw new Error("the disk is gone");
  });
  const { code, stderr } = await mesh(["cache", "verify"]);
  expect(stderr).toBe("mesh: the disk is gone\n");
  expect(code).toBe(1);
});

const summary: BuildSummary = {
  ...{ tasks: 2, local: 0, stolen: 2, cachedLocal: 0, cachedMesh: 0, fallback: [] },
  ...{ wallMs: 1, clientCpuMs: 2, byPeer: { p1: 2 }, compared: 2, differing: 1 },
};

/** A node whose builds have two stolen tasks, one of which came out differently. */
async function serveBuild(): Promise<readonly unknown[]> {
  const requests: unknown[] = [];
  await serve(async (request, session) => {
    if ((request as { call: string }).call === "status") {
      const load = { slots: 2, busy: 0, queued: 0 };
      return { status: { peerId: "p0", name: "alpha", ...load, peers: [], counters: {} } };
    }
    requests.push(request);
    const build = "b1";
    const paths = { shimSocket: "/s", shim: "/x", shimDir: folder, shimKind: "c" };
    session.send({ event: "build-started", build, ...paths, slots: 2, jobs: 6, peers: 1 });
    session.send({ event: "peer-joined", peer: "p1", name: "beta", slots: 2 });
    for (const task of ["1", "2"]) {
      const label = `${task}.cc`;
      session.send({ event: "task-queued", task, build, kind: "c++", label, stealable: true });
      session.send({ event: "task-started", task, build, peer: "p1", attempt: 0, backup: false });
      const phases = { queueMs: 0, fetchMs: 1, runMs: 2, returnMs: 1 };
      const how = { source: "there", peer: "p1", exitCode: 0, wallMs: 4, phases };
      session.send({ event: "task-done", task, build, label, ...how });
      const differs = task === "1" ? [] : [{ path: "/w/2.o", atByte: 17 }];
      const equal = task === "1";
      session.send({ event: "task-compared", task, build, label, equal, differs });
    }
    await session.next();
    return { summary };
  });
  return requests;
}

test("a comparison names what differs and ends with 1, unless the tool failed by itself", async () => {
  const requests = await serveBuild();
  const differing = await mesh(["exec", "--compare", "--", "true"]);
  expect(differing.stderr).toContain(
    "mesh: 2.cc came out differently here: /w/2.o from byte 17 on\n",
  );
  expect(differing.stderr).toMatch(/2 done again to compare, 1 came out differently\n$/);
  expect(differing.code).toBe(1);
  expect((await mesh(["exec", "--compare", "--", "sh", "-c", "exit 7"])).code).toBe(7);
  expect(requests[0]).toMatchObject({ compare: true, cacheRead: true, cacheWrite: true });
});

test.each([
  [["--no-cache"], { cacheRead: false, cacheWrite: false, compare: false }],
  [["--no-cache-read"], { cacheRead: false, cacheWrite: true }],
  [["--no-cache-write"], { cacheRead: true, cacheWrite: false }],
])("%j is what the node is asked for", async (flags, asked) => {
  const requests = await serveBuild();
  await mesh(["exec", ...flags, "--", "true"]);
  expect(requests).toMatchObject([asked]);
});

test("a trace is written whole, with the nodes by their names", async () => {
  await serveBuild();
  const path = join(folder, "build.trace");
  writeFileSync(path, "what was there before");
  await mesh(["exec", "--trace", "build.trace", "--", "true"]);
  const { traceEvents } = JSON.parse(readFileSync(path, "utf8")) as {
    traceEvents: { name: string; args: { name?: string } }[];
  };
  const nodes = traceEvents.filter(({ name }) => name === "process_name");
  expect(nodes.map(({ args }) => args.name)).toEqual(["alpha", "beta"]);
  expect(traceEvents.map(({ name }) => name)).toContain("2.cc");
  expect(readdirSync(folder).filter((name) => name.startsWith(".mesh"))).toEqual([]);
});

test("a trace is written after a Ctrl-C, too, and through a symlink", async () => {
  await serveBuild();
  const path = join(folder, "elsewhere.json");
  writeFileSync(path, "");
  symlinkSync(path, join(folder, "link.json"));
  const { code } = await mesh(
    ["exec", "--trace", "link.json", "--", "sh", "-c", "echo ready; sleep 60"],
    folder,
    (child) => child.kill("SIGINT"),
  );
  expect(code).toBe(130);
  expect(JSON.parse(readFileSync(path, "utf8")).traceEvents.length).toBeGreaterThan(3);
  expect(lstatSync(join(folder, "link.json")).isSymbolicLink()).toBe(true);
});
