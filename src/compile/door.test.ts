import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { textOf, utf8 } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId } from "../base/ids.ts";
import type { BlobStore } from "../blob/store.ts";
import { type Grant, StealRequestSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { writeDone, writeProgress } from "../work/answer.ts";
import type { OwnerParts } from "../work/owner.ts";
import type { Slot } from "../work/slots.ts";
import type { Build, BuildOptions, CompileDoor } from "./door.ts";
import { createDoorWorld, type DoorWorld } from "./door-world.contract.ts";
import type { ActionPlan, Planner } from "./plan.ts";
import { hasCc, type World } from "./shim-world.contract.ts";

const thief = asPeerId("thief");
const timings = { queueMs: 0, fetchMs: 0, runMs: 1, storeMs: 0 };

let on: DoorWorld;
let world: World;
let store: BlobStore;
let owner: OwnerParts;
let door: CompileDoor;
let build: Build;
/** Holds the only slot, so that nothing runs here until it is given back. */
let slot: Slot;
let planned: number;
let check: ActionPlan["check"];
let checkHere: ActionPlan["checkHere"];
/** More of the plan. */
let more: Partial<ActionPlan>;
let queued: Promise<void>;

/** `gcc -c IN -o OUT` may run anywhere and may also write OUT.d. */
const planner: Planner = async ({ args, cwd, compiler }) => {
  planned += 1;
  if (args.includes("-fbroken")) throw new MeshError("io", "EIO: reading a header");
  if (!args.includes("-c")) return { at: "here", reason: "link", kind: "link", label: "a.out" };
  const out = join(cwd, args[args.indexOf("-o") + 1] ?? "a.o");
  return {
    at: "anywhere",
    kind: "c",
    label: "a.c",
    spec: {
      argv: [compiler, ...args],
      env: {},
      cwd,
      outputPaths: [out, `${out}.d`],
      inputs: [],
      platform: { platform: "linux/x86_64" },
      timeoutMs: 1000,
    },
    required: [out],
    facts: { files: [], asked: [], versions: [] },
    ...(check === undefined ? {} : { check }),
    ...(checkHere === undefined ? {} : { checkHere }),
    ...more,
  };
};

const sharing: BuildOptions = { steal: true, cacheRead: true, cacheWrite: true, compare: false };
const warnings = () => on.events.flatMap((it) => (it.event === "log" ? [it.message] : []));

beforeEach(async () => {
  on = await createDoorWorld(() => () => planner, { tasksMax: 2 });
  ({ world, owner, door } = on);
  store = on.parts.store;
  slot = on.slots.tryTake() ?? (() => {});
  on.peersPresent = true;
  on.slotFree = false;
  planned = 0;
  check = undefined;
  checkHere = undefined;
  more = {};
  queued = on.nextQueued();
  build = door.openBuild("b1", sharing);
  world.compiler("gcc", 'echo "local $@" >&2; echo local >a.o; exit 6');
});
afterEach(() => on.close());

const compile = (...extra: string[]) =>
  world.start([world.shim, "gcc", ...extra, "-c", "a.c", "-o", "a.o"]);
const file = (name: string) => join(world.folder, name);
const leftovers = () => readdirSync(world.folder).filter((name) => name.startsWith(".mesh"));

/** Steals the one task there is. */
async function steal(peer = thief): Promise<Grant> {
  await queued;
  const request = create(StealRequestSchema, { room: 1, idle: 1, platforms: ["linux/x86_64"] });
  const [grant] = owner.onSteal(peer, request).grants;
  if (grant === undefined) throw new Error("nothing to steal");
  return grant;
}

interface Answer {
  readonly exitCode?: number;
  readonly outputs?: Readonly<Record<string, string | Digest>>;
  readonly stdout?: string;
  readonly stderr?: string;
}

async function answer({ task, attempt }: Grant, said: Answer, peer = thief): Promise<void> {
  const { exitCode = 0, outputs = {}, stdout = "", stderr = "" } = said;
  const blobs = [];
  for (const [name, content] of Object.entries(outputs)) {
    const isDigest = /^[0-9a-f]{64}-/.test(content);
    const digest = isDigest ? (content as Digest) : await store.put(utf8(content));
    blobs.push({ path: file(name), digest, executable: false });
  }
  const outcome = {
    exitCode,
    outputs: blobs,
    stdout: await store.put(utf8(stdout)),
    stderr: await store.put(utf8(stderr)),
  };
  const record = new Uint8Array(0);
  owner.onDone(peer, await writeDone(task, attempt, { outcome, timings, record }, store));
}

async function progress(
  { task, attempt }: Grant,
  name: string,
  text: string,
  stderr: string,
  peer = thief,
) {
  const digest = await store.put(utf8(text));
  const outputs = [{ path: file(name), digest, executable: false }];
  const said = { stderr: utf8(stderr), outputs };
  owner.onProgress(peer, writeProgress(task, attempt, said));
}

describe("a compile that a peer did", () => {
  test("leaves the files and the words that the compiler would have", async () => {
    const running = world.start([
      "/bin/sh",
      "-c",
      `umask 027; exec ${world.shim} gcc -c a.c -o a.o`,
    ]);
    const outputs = { "a.o": "object", "a.o.d": "" };
    await answer(await steal(), { outputs, stdout: "out\n", stderr: "warning\n" });
    const ended = await running.ended;
    expect(ended).toEqual({ code: 0, signal: null, stdout: "out\n", stderr: "warning\n" });
    expect(readFileSync(file("a.o"), "utf8")).toBe("object");
    expect(readFileSync(file("a.o.d"), "utf8")).toBe("");
    expect(statSync(file("a.o")).mode & 0o777).toBe(0o640);
    expect(leftovers()).toEqual([]);
    expect(build.summary()).toMatchObject({ tasks: 1, stolen: 1, local: 0, byPeer: { thief: 1 } });
  });

  test.each<[string, Answer]>([
    ["ended with an error", { exitCode: 1, stderr: "remote nonsense\n" }],
    [
      "lacks the bytes of one file",
      { outputs: { "a.o": "x", "a.o.d": digestOf(new Uint8Array(20_000)) } },
    ],
    ["lacks the object file", { outputs: { "a.o.d": "a.o: a.c" } }],
    ["wrote what nobody asked for", { outputs: { "a.o": "x", "b.o": "y" } }],
  ])("but %s is done again here, and nothing of it is seen", async (_, said) => {
    const running = compile();
    const grant = await steal();
    expect(existsSync(file("a.o"))).toBe(false);
    await answer(grant, said);
    slot();
    expect(await running.ended).toMatchObject({ code: 6, stderr: "local -c a.c -o a.o\n" });
    expect(readFileSync(file("a.o"), "utf8")).toBe("local\n");
    expect([existsSync(file("a.o.d")), existsSync(file("b.o"))]).toEqual([false, false]);
    expect(leftovers()).toEqual([]);
    expect(build.summary()).toMatchObject({ local: 1, fallback: [{ count: 1 }] });
  });

  test("but does not pass the planner's check is done again here", async () => {
    check = async (read) => {
      const dep = await read(file("a.o.d"));
      expect(await read(file("none"))).toBeUndefined();
      throw new MeshError("refused", `${textOf(dep ?? new Uint8Array(0))} is no input`);
    };
    const running = compile();
    await answer(await steal(), { outputs: { "a.o": "x", "a.o.d": "secret.h" } });
    slot();
    expect(await running.ended).toMatchObject({ code: 6 });
    expect(existsSync(file("a.o.d"))).toBe(false);
    expect(build.summary().fallback[0]?.reason).toContain("secret.h is no input");
  });

  test("but whose output has become a symlink meanwhile is done again here", async () => {
    const running = compile();
    const grant = await steal();
    symlinkSync("elsewhere", file("a.o"));
    await answer(grant, { outputs: { "a.o": "x" } });
    slot();
    expect(await running.ended).toMatchObject({ code: 6 });
    expect(readFileSync(file("elsewhere"), "utf8")).toBe("local\n");
  });
});

describe("what a peer says before the end", () => {
  test("is shown and in place at once, and not repeated at the end", async () => {
    const running = compile();
    const grant = await steal();
    const line = new Promise((resolve) => running.child.stderr?.once("data", resolve));
    await progress(grant, "a.o.d", "early", "first\n");
    expect(`${await line}`).toBe("first\n");
    expect(readFileSync(file("a.o.d"), "utf8")).toBe("early");
    const { ino } = statSync(file("a.o.d"));
    const outputs = { "a.o": "object", "a.o.d": "early" };
    await answer(grant, { outputs, stderr: "first\nsecond\n" });
    expect(await running.ended).toMatchObject({ code: 0, stderr: "first\nsecond\n" });
    expect(statSync(file("a.o.d")).ino).toBe(ino);
  });

  test("is not repeated by the next attempt either", async () => {
    const running = compile();
    const first = await steal();
    const line = new Promise((resolve) => running.child.stderr?.once("data", resolve));
    await progress(first, "a.o.d", "early", "first\n");
    await line;
    owner.onPeerLeft(thief);
    // The first had its chance: it does not get the task again.
    const other = asPeerId("other");
    const second = await steal(other);
    await progress(second, "a.o.d", "early", "first\n", other);
    await answer(second, { outputs: { "a.o": "object" }, stderr: "first\nsecond\n" }, other);
    expect(await running.ended).toMatchObject({ code: 0, stderr: "first\nsecond\n" });
  });

  test("is followed by the rest of what the compiler here says, when it ends badly", async () => {
    world.compiler("gcc", "echo first >&2; echo error >&2; exit 1");
    const running = compile();
    const grant = await steal();
    const line = new Promise((resolve) => running.child.stderr?.once("data", resolve));
    await progress(grant, "a.o.d", "early", "first\n");
    await line;
    await answer(grant, { exitCode: 1 });
    slot();
    expect(await running.ended).toMatchObject({ code: 1, stderr: "first\nerror\n" });
  });

  test.each(["other\n", ""])(
    "commits the peer to it: %j at the end is done again here",
    async (stderr) => {
      world.compiler("gcc", "echo first >&2; exit 0");
      const running = compile();
      const grant = await steal();
      const line = new Promise((resolve) => running.child.stderr?.once("data", resolve));
      await progress(grant, "a.o.d", "early", "first\n");
      await line;
      await answer(grant, { outputs: { "a.o": "object" }, stderr });
      slot();
      expect(await running.ended).toMatchObject({ code: 0, stderr: "first\n" });
      expect(build.summary().fallback[0]?.reason).toContain("refused");
    },
  );
});

describe("a compile stays here", () => {
  beforeEach(() => slot());

  /** Only then is a plan of no use to anybody. */
  function forgetful(other: Partial<BuildOptions> = {}): void {
    build.close();
    build = door.openBuild("b1", { ...sharing, cacheRead: false, cacheWrite: false, ...other });
  }

  async function reasonOf(...argv: [string, ...string[]]): Promise<unknown> {
    await world.run(argv);
    const { fallback, local } = build.summary();
    expect(local).toBe(1);
    return fallback[0]?.reason;
  }

  test("without planning when there are no peers, which is no fallback", async () => {
    forgetful();
    on.peersPresent = false;
    expect(await reasonOf(world.shim, "gcc", "-c", "a.c")).toBeUndefined();
    expect(planned).toBe(0);
  });

  test("without planning when a slot is waiting for it, which is no fallback", async () => {
    forgetful();
    on.slotFree = true;
    expect(await reasonOf(world.shim, "gcc", "-c", "a.c")).toBeUndefined();
    expect(planned).toBe(0);
  });

  test("without planning when the build does not want to share", async () => {
    forgetful({ steal: false });
    expect(await reasonOf(world.shim, "gcc", "-c", "a.c")).toBeUndefined();
    expect(planned).toBe(0);
  });

  test("when the planner says so", async () => {
    expect(await reasonOf(world.shim, "gcc", "a.o")).toBe("link");
  });

  test("when the planner fails, and the failure is told", async () => {
    expect(await reasonOf(world.shim, "gcc", "-fbroken", "-c", "a.c")).toBe("io");
    expect(warnings()).toEqual([expect.stringContaining("EIO: reading a header")]);
  });

  test("when the planner fails again and again, which is told once in each build", async () => {
    door.openBuild("b2", sharing);
    for (const id of ["b1", "b1", "b2", "b1"]) {
      const env = { ...world.env, MESH_BUILD: id };
      await world.run([world.shim, "gcc", "-fbroken", "-c", "a.c"], { env });
    }
    expect(warnings()).toHaveLength(2);
    expect(build.summary().fallback).toEqual([{ reason: "io", count: 3 }]);
  });

  test("when nobody here reads that compiler's command lines", async () => {
    world.compiler("fancycc", "exit 0");
    expect(await reasonOf(world.shim, "fancycc", "-c", "a.c")).toBe("unknown-compiler");
  });

  test("when the compiler is a wrapper by another name", async () => {
    world.compiler("ccache", "exit 0");
    symlinkSync("ccache", join(world.real, "cc"));
    expect(await reasonOf(world.shim, join(world.real, "cc"), "-c", "a.c")).toBe(
      "compiler-wrapper",
    );
  });

  test.skipIf(!hasCc)("when its arguments are no UTF-8", async () => {
    const call = `${world.shim} gcc -c "$(printf '\\377').c"`;
    expect(await reasonOf("/bin/sh", "-c", call)).toBe("not-utf8");
  });

  test("when its output cannot simply be replaced", async () => {
    symlinkSync("/dev/null", file("a.o"));
    const argv = [world.shim, "gcc", "-c", "a.c", "-o", "a.o"] as const;
    expect(await reasonOf(...argv)).toBe("output-not-a-file");
  });
});

test("cancelling a build ends its waiting compiles with 130", async () => {
  const running = compile();
  await queued;
  build.cancel();
  const stderr = "mesh: the build was cancelled\n";
  expect(await running.ended).toMatchObject({ code: 130, stderr });
  expect(owner.counts()).toEqual({ queued: 0, here: 0, leased: 0, committing: 0 });
});

test("a shim that is killed takes its task out of the queue", async () => {
  const running = compile();
  await queued;
  running.child.kill("SIGKILL");
  await running.ended;
  while (owner.load().queued > 0) await new Promise((resolve) => setImmediate(resolve));
  expect(warnings()).toEqual([]);
});

test("when the owner takes no more tasks, compiles go on without it", async () => {
  const waiting = [compile(), compile()];
  while (owner.load().queued < 2) await new Promise((resolve) => setTimeout(resolve, 2));
  expect(await compile().ended).toMatchObject({ code: 6 });
  expect(warnings()).toEqual([expect.stringContaining("the mesh gave up")]);
  slot();
  for (const { ended } of waiting) expect(await ended).toMatchObject({ code: 6 });
});

test("a shim that has gone before its result is remembered is counted all the same", async () => {
  world.compiler("gcc", "echo object >a.o");
  const looked = Promise.withResolvers<void>();
  checkHere = () => looked.promise;
  slot();
  expect(await compile().ended).toMatchObject({ code: 0 });
  expect(build.summary().tasks).toBe(0);
  const impatient = new AbortController();
  const early = build.settled(impatient.signal);
  impatient.abort(new Error("no time"));
  await expect(early).rejects.toThrow("no time");
  const settled = build.settled(new AbortController().signal);
  looked.resolve();
  await settled;
  expect(build.summary()).toMatchObject({ tasks: 1, local: 1 });
});

test("a run of which nothing is kept is counted, however long its check takes", async () => {
  world.compiler("gcc", "echo object >a.o");
  writeFileSync(file("a.h"), "");
  utimesSync(file("a.h"), 4e9, 4e9);
  const header = on.parts.view.look().file(file("a.h"));
  more = { facts: { files: header === undefined ? [] : [header], asked: [], versions: [] } };
  checkHere = () => new Promise(() => {});
  slot();
  expect(await compile().ended).toMatchObject({ code: 0 });
  await build.settled(new AbortController().signal);
  expect(build.summary()).toMatchObject({ tasks: 1, local: 1 });
  expect(on.records).toMatchObject([{ source: "here", kept: "input-changed" }]);
});

test("a compiler is not asked for a list that it could not write", async () => {
  world.compiler("gcc", 'echo "$@" >>calls; echo object >a.o');
  slot();
  mkdirSync(file("lists"));
  for (const list of ["lists/1.d", "gone/1.d"]) {
    more = { hereArgs: [`-MF${list}`], hereFile: file(list) };
    const args = list.startsWith("gone") ? ["-g"] : [];
    expect(await compile(...args).ended).toMatchObject({ code: 0 });
  }
  await build.settled(new AbortController().signal);
  const calls = readFileSync(file("calls"), "utf8").trim().split("\n");
  expect(calls).toEqual(["-MFlists/1.d -c a.c -o a.o", "-g -c a.c -o a.o"]);
  expect(on.records.map(({ kept }) => kept)).toEqual([undefined, "io"]);
});

test("a build can be opened once, and only so many at a time", () => {
  expect(() => door.openBuild("b1", sharing)).toThrow(/open already/);
  door.openBuild("b2", sharing);
  expect(() => door.openBuild("b3", sharing)).toThrow(/builds are open/);
});

test("colours that were asked for are asked of the peer's compiler, once", async () => {
  const env = { ...world.env, MESH_COLOR: "1" };
  const running = world.start([world.shim, "gcc", "-c", "a.c", "-o", "a.o"], { env });
  const grant = await steal();
  expect(textOf(grant.command)).toContain("-fdiagnostics-color=always");
  await answer(grant, { outputs: { "a.o": "object" } });
  expect(await running.ended).toMatchObject({ code: 0 });
  slot();
  const own = world.run([world.shim, "gcc", "a.o"], { env });
  expect((await own).stderr).toBe("local -fdiagnostics-color=always a.o\n");
});

describe("a compile whose backup ran in this node's own sandbox", () => {
  const self = () => on.self;

  test("is remembered like any peer's", async () => {
    more = { sandboxed: true };
    const running = compile();
    await answer(await steal(self()), { outputs: { "a.o": "object" } }, self());
    expect(await running.ended).toMatchObject({ code: 0 });
    expect(readFileSync(file("a.o"), "utf8")).toBe("object");
    expect(on.records).toMatchObject([{ source: "here", kept: undefined }]);
  });

  test("is compared like any peer's, and the compiler's own output is what the user gets", async () => {
    build.close();
    build = door.openBuild("b1", { ...sharing, compare: true });
    world.compiler("gcc", "echo local >a.o");
    const running = compile();
    await answer(await steal(self()), { outputs: { "a.o": "object" } }, self());
    slot();
    expect(await running.ended).toMatchObject({ code: 0 });
    expect(readFileSync(file("a.o"), "utf8")).toBe("local\n");
    expect(build.summary()).toMatchObject({ compared: 1, differing: 1 });
  });
});
