/** What a node must not believe: its own files, its peers, and sources that it cannot read. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { asPeerId } from "../base/ids.ts";
import { type Grant, StealRequestSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { writeDone } from "../work/answer.ts";
import type { Build } from "./door.ts";
import { createHome, type DoorHome } from "./door-world.contract.ts";
import { canTorture, createTorture, platform, type Torture } from "./torture.contract.ts";

let home: DoorHome;
let folder: string;
let on: Torture;
beforeEach(async () => {
  if (!canTorture) return;
  home = createHome(true);
  folder = realpathSync(mkdtempSync(join(tmpdir(), "mesh torture-")));
  on = await createTorture({ home, folder });
});
afterEach(async () => {
  await on?.close();
  for (const path of [home?.data, folder])
    if (path !== undefined) rmSync(path, { recursive: true, force: true });
});

const line = "$CC -c a.c -MD -MF a.d";
const source = '#include "x.h"\nint f(void) { int b; return X; }\n';

async function write(): Promise<void> {
  on.write("a.c", source);
  on.write("x.h", "#define X 1\n");
  await on.settle();
}

/** The next life of the node, at the same places. */
async function reopen(between: () => void = () => {}): Promise<void> {
  await on.close();
  between();
  on = await createTorture({ home, folder });
}

const warnings = (): readonly string[] =>
  on.on.events.flatMap((it) => (it.event === "log" && it.level === "warn" ? [it.message] : []));

/** Every file of the store, but not its folders. */
function blobFiles(): readonly string[] {
  const root = join(home.data, "blobs");
  return readdirSync(root, { recursive: true, encoding: "utf8" })
    .map((name) => join(root, name))
    .filter((path) => /[0-9a-f]{64}/.test(path));
}

describe.skipIf(!canTorture)("a known result outlives its node", () => {
  test("and is known in its next life", async () => {
    await write();
    await on.miss(line);
    await reopen();
    await on.hit(line);
  });
});

describe.skipIf(!canTorture)("a record is damaged on the disk:", () => {
  test.each([
    ["one byte of it", (bytes: Buffer) => flip(bytes, bytes.byteLength >> 1)],
    ["its first byte", (bytes: Buffer) => flip(bytes, 0)],
    ["its last byte", (bytes: Buffer) => flip(bytes, bytes.byteLength - 1)],
    ["its second half", (bytes: Buffer) => bytes.subarray(0, bytes.byteLength >> 1)],
    ["all of it", (bytes: Buffer) => Buffer.alloc(bytes.byteLength, 7)],
  ])("%s", async (_, damage) => {
    await write();
    await on.miss(line);
    await reopen(() => {
      const root = join(home.data, "results");
      const files = readdirSync(root).map((name) => join(root, name));
      expect(files.length).toBeGreaterThan(0);
      for (const path of files) writeFileSync(path, damage(readFileSync(path)));
    });
    await on.miss(line);
    await on.hit(line);
    await reopen();
    await on.hit(line);
  });

  /** At every place of the file, so that nothing of a record goes unnoticed. */
  test("any byte, one after the other", async () => {
    await write();
    await on.miss(line);
    await on.on.results.close();
    const [name = ""] = readdirSync(join(home.data, "results"));
    const path = join(home.data, "results", name);
    const whole = readFileSync(path);
    const step = Math.ceil(whole.byteLength / 12);
    for (let at = 0; at < whole.byteLength; at += step) {
      await reopen(() => writeFileSync(path, flip(Buffer.from(whole), at)));
      await on.miss(line);
    }
  }, 120_000);
});

describe.skipIf(!canTorture)("a record's blobs", () => {
  test("are gone from the disk", async () => {
    await write();
    await on.miss(line);
    await reopen(() => {
      for (const path of blobFiles()) rmSync(path);
    });
    await on.miss(line);
    await on.hit(line);
  });

  test("go while the node runs", async () => {
    await write();
    await on.miss(line);
    for (const path of blobFiles()) rmSync(path);
    const again = await on.same(line);
    expect(again).toMatchObject({ code: 0, source: "here" });
    await on.same(line);
    await on.hit(line);
  });

  test.each([
    ["while the node runs", false],
    ["between its lives", true],
  ])("have other bytes, %s", async (_, isBetween) => {
    await write();
    await on.miss(line);
    const spoil = (): void => {
      for (const path of blobFiles()) {
        const bytes = readFileSync(path);
        chmodSync(path, 0o600);
        writeFileSync(path, flip(bytes, bytes.byteLength >> 1));
      }
    };
    if (isBetween) await reopen(spoil);
    else spoil();
    const again = await on.same(line);
    expect(again).toMatchObject({ code: 0, source: "here", kept: undefined });
    expect(on.on.parts.store.stats().quarantined).toBeGreaterThan(0);
    await on.hit(line);
  });
});

describe.skipIf(!canTorture)("a peer's answer", () => {
  const thief = asPeerId("thief");
  let build: Build;
  let giveBack: () => void;

  beforeEach(async () => {
    await write();
    await on.miss(line.replace("a.d", "other.d"));
    const options = { steal: true, cacheRead: true, cacheWrite: true, compare: false };
    build = on.on.door.openBuild("peers", options);
    giveBack = on.on.slots.tryTake() ?? (() => {});
    on.on.peersPresent = true;
    on.on.slotFree = false;
  });

  interface Answer {
    readonly outputs: readonly (readonly [name: string, bytes: Uint8Array])[];
    readonly stderr?: string;
  }

  /** What the peer answers, of what the compiler would have written. */
  type Change = (right: ReadonlyMap<string, Buffer>) => Answer["outputs"];

  async function answered(change: Change): Promise<Awaited<ReturnType<Torture["compile"]>>> {
    const right = await rightOutputs();
    const queued = on.on.nextQueued();
    const running = on.compile(line, { build: "peers" });
    await queued;
    const request = create(StealRequestSchema, { room: 1, idle: 1, platforms: [platform] });
    const [grant] = on.on.owner.onSteal(thief, request).grants;
    if (grant === undefined) throw new Error("nothing to steal");
    await answer(grant, { outputs: change(right) });
    giveBack();
    return running;
  }

  async function rightOutputs(): Promise<ReadonlyMap<string, Buffer>> {
    expect((await on.plain(line)).code).toBe(0);
    const right = new Map(["a.o", "a.d"].map((name) => [name, readFileSync(on.at(name))] as const));
    for (const name of right.keys()) rmSync(on.at(name));
    return right;
  }

  async function answer({ task, attempt }: Grant, { outputs, stderr = "" }: Answer): Promise<void> {
    const { store } = on.on.parts;
    const blobs = [];
    for (const [name, bytes] of outputs)
      blobs.push({ path: on.at(name), digest: await store.put(bytes), executable: false });
    const outcome = {
      ...{ exitCode: 0, outputs: blobs },
      stdout: await store.put(new Uint8Array(0)),
      stderr: await store.put(utf8(stderr)),
    };
    const timings = { queueMs: 0, fetchMs: 0, runMs: 1, storeMs: 0 };
    const said = { outcome, timings, record: new Uint8Array(0) };
    on.on.owner.onDone(thief, await writeDone(task, attempt, said, store));
  }

  test("that is right is taken as it is", async () => {
    const left = await answered((right) => [...right]);
    expect(left).toMatchObject({ code: 0, source: "there" });
    expect(left.files["a.o"]).toBeDefined();
    expect(build.summary()).toMatchObject({ stolen: 1, local: 0, fallback: [] });
  });

  test.each<[string, Change, RegExp]>([
    ["has one output too many", (right) => [...right, ["b.o", utf8("x")]], /malformed: .*output/],
    ["lacks the object", (right) => [...right].filter(([name]) => name !== "a.o"), /did not write/],
    ["lacks the dependency file", (right) => [...right].slice(0, 1), /no dependency file/],
    ["names the object otherwise", (right) => renamed(right, "A.o"), /malformed: .*output/],
    ["names the object from elsewhere", (right) => renamed(right, "../a.o"), /malformed: .*output/],
    [
      "names an output twice",
      (right) => [...right, ...[...right].slice(0, 1)],
      /malformed: .*output/,
    ],
    ["has half of a dependency file", (right) => depfile(right, (it) => it.slice(0, 9)), /malform/],
    ["has no end of the dependency file", (right) => depfile(right, (it) => it.trimEnd()), /malf/],
    ["has an empty dependency file", (right) => depfile(right, () => ""), /malformed/],
    ["has another file there", (right) => depfile(right, () => "\u007fELF"), /malformed/],
    [
      "was made from a header that nobody sent",
      (right) => depfile(right, (it) => it.replace("x.h", "x.h /etc/hostname")),
      /scanner-miss/,
    ],
  ])("that %s is refused, and the compiler here decides", async (_, change, why) => {
    const left = await answered(change);
    expect(left).toMatchObject({ code: 0, source: "here" });
    expect(left.fallback).toMatch(why);
    const { files } = left;
    for (const name of Object.keys(files)) rmSync(on.at(name));
    expect(Object.keys(files).sort()).toEqual(["a.d", "a.o"]);
    expect((await on.plain(line)).files).toEqual(files);
    expect(build.summary()).toMatchObject({ stolen: 0, local: 1, fallback: [{ count: 1 }] });
    // What the peer said is not known from now on; what the compiler here did is.
    on.on.peersPresent = false;
    await on.hit(line);
  });

  const renamed = (right: ReadonlyMap<string, Buffer>, name: string): Answer["outputs"] =>
    [...right].map(([before, bytes]) => [before === "a.o" ? name : before, bytes]);

  const depfile = (
    right: ReadonlyMap<string, Buffer>,
    change: (text: string) => string,
  ): Answer["outputs"] =>
    [...right].map(([name, bytes]) =>
      name === "a.d" ? [name, utf8(change(bytes.toString()))] : [name, bytes],
    );
});

describe.skipIf(!canTorture)("a header cannot be read,", () => {
  test("because it is a folder", async () => {
    await write();
    rmSync(on.at("x.h"));
    mkdirSync(on.at("x.h"));
    for (const _ of [1, 2]) {
      const left = await on.same(line);
      expect(left).toMatchObject({ code: 1, source: "here" });
    }
    expect(warnings()).toEqual([]);
  });

  const isRoot = process.getuid?.() === 0;
  if (isRoot) console.warn("a case of the torture suite is skipped: root may read everything");
  test.skipIf(isRoot)("because nobody may", async () => {
    await write();
    chmodSync(on.at("x.h"), 0);
    const left = await on.same(line);
    expect(left).toMatchObject({ code: 1, source: "here", whyHere: "cannot-plan io" });
  });

  test("because it is a queue", async () => {
    await write();
    rmSync(on.at("x.h"));
    const queue = `rm -f x.h; mkfifo x.h; echo '#define X 1' >x.h & ${line}; c=$?; wait; exit $c`;
    for (const _ of [1, 2]) {
      const left = await on.same(queue);
      expect(left).toMatchObject({ code: 0, source: "here" });
      expect(left.kept).not.toBe(undefined);
    }
  });
});

function flip(bytes: Buffer, at: number): Buffer {
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0x55, at);
  return bytes;
}
