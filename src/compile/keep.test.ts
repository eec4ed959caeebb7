import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { encodeAction } from "../action/encode.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import { factsOf } from "../exec/facts.ts";
import { createTrail } from "../exec/file-view.ts";
import type { Planned } from "./course.ts";
import { createDoorWorld, type DoorWorld } from "./door-world.contract.ts";
import { createKeep, type Keep, type KeepDeps } from "./keep.ts";

type SharedPlan = Extract<Planned, { at: "anywhere" }>;

const never = new AbortController().signal;
let on: DoorWorld;
let folder: string;
let keep: Keep;
/** Called while an output is copied: before its bytes are read, and after. */
let beforeCopy: (() => void) | undefined;
let afterCopy: (() => void) | undefined;
let told: string[];

const at = (name: string): string => join(folder, name);
const write = (name: string, text: string): void => fs.writeFileSync(at(name), text);
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));

beforeEach(async () => {
  on = await createDoorWorld(() => () => undefined);
  folder = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "mesh-keep-")));
  beforeCopy = undefined;
  afterCopy = undefined;
  told = [];
  const { store } = on.parts;
  const watched: KeepDeps["store"] = {
    ...store,
    async putFile(path) {
      beforeCopy?.();
      const digest = await store.putFile(path);
      afterCopy?.();
      return digest;
    },
  };
  keep = createKeep({ ...on.parts, results: on.results, store: watched });
  write("in", "input");
  fs.symlinkSync("in", at("link"));
  await pause();
});
afterEach(async () => {
  await on.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** Of a tool that reads `in`, also by its other name, and writes `out` and perhaps `more`. */
function planOf(changes: Partial<SharedPlan> = {}): SharedPlan {
  const look = on.parts.view.look();
  const trail = createTrail();
  const found = look.find(look.folder("/"), at("link"), trail);
  const node = found?.kind === "file" ? look.file(found.path) : undefined;
  if (node === undefined) throw new Error("there is no input");
  const spec: ActionSpec = {
    ...{ argv: ["tool"], env: {}, cwd: folder, platform: {}, timeoutMs: 1000 },
    outputPaths: [at("out"), at("more")],
    inputs: [node.entry, ...trail.links.values()],
  };
  return {
    ...{ at: "anywhere", kind: "c", label: "in", spec, required: [at("out")] },
    facts: factsOf([node], trail.asked),
    action: encodeAction(spec),
    ...changes,
  };
}

interface Ran {
  readonly exitCode?: number;
  readonly printed?: boolean;
  /** What the tool does. */
  readonly run?: () => void;
}

/** Why nothing was kept, once it is clear that it was not; undefined when the result is known. */
async function keeps(plan: SharedPlan, { exitCode = 0, printed = true, run }: Ran = {}) {
  const sinceMs = await keep.settle(plan, on.parts.clock.wallMs(), never);
  if (sinceMs === undefined) return "input-changed before";
  (run ?? (() => write("out", "output")))();
  const said = { stdout: utf8("out\n"), stderr: utf8("err\n") };
  const output = printed ? said : undefined;
  const why = await keep.inPlace(plan, { ran: { exitCode, output }, runMs: 1, sinceMs }, () =>
    told.push("copied"),
  );
  expect(on.results.find(plan.action.digest) === undefined).toBe(why !== undefined);
  expect(told.filter((word) => word === "copied")).toEqual(["copied"]);
  return why;
}

test("what a run wrote and printed is known from then on", async () => {
  const plan = planOf();
  const run = (): void => {
    write("out", "output");
    write("more", "");
    fs.chmodSync(at("out"), 0o755);
  };
  expect(await keeps(plan, { run })).toBe(undefined);
  const known = on.results.find(plan.action.digest);
  const read = async (digest: Parameters<typeof on.parts.store.read>[0]) =>
    textOf(await on.parts.store.read(digest));
  expect(known?.outcome.outputs.map(({ path, executable }) => [path, executable])).toEqual([
    [at("out"), true],
    [at("more"), false],
  ]);
  expect(await Promise.all(known?.outcome.outputs.map(({ digest }) => read(digest)) ?? [])).toEqual(
    ["output", ""],
  );
  expect(known && [await read(known.outcome.stdout), await read(known.outcome.stderr)]).toEqual([
    "out\n",
    "err\n",
  ]);
});

test("an output that is not always written may be missing", async () => {
  expect(await keeps(planOf())).toBe(undefined);
});

describe("nothing is kept", () => {
  test("of a run that failed, or whose words are not known", async () => {
    expect(await keeps(planOf(), { exitCode: 3 })).toBe("exit-code 3");
    told = [];
    expect(await keeps(planOf(), { printed: false })).toBe("output-too-long");
  });

  test("when an output is missing, was there before, or is no file", async () => {
    expect(await keeps(planOf(), { run: () => {} })).toBe("output-missing");
    told = [];
    write("out", "of an earlier run");
    await pause();
    expect(await keeps(planOf(), { run: () => {} })).toBe("output-missing");
    told = [];
    const run = (): void => {
      fs.rmSync(at("out"));
      fs.mkdirSync(at("out"));
    };
    expect(await keeps(planOf(), { run })).toBe("output-not-a-file");
  });

  test.each([
    ["before it is read", "before", () => write("out", "other!")],
    ["after it was read", "after", () => write("out", "other!")],
    ["by another file", "after", () => replace("out", "output")],
    ["and disappears", "after", () => fs.rmSync(at("out"))],
    ["under its old time stamp", "before", () => keepingTime("out", () => write("out", "other!"))],
  ] as const)("when an output changes while it is copied, %s", async (_, when, change) => {
    if (when === "before") beforeCopy = change;
    else afterCopy = change;
    expect(await keeps(planOf())).toBe("output-changed");
  });

  test.each([
    ["is another", () => write("in", "other")],
    ["is gone", () => fs.rmSync(at("in"))],
    ["is a folder", () => replaceByFolder("in")],
    ["was written again as it was", () => write("in", "input")],
    ["was another in between", () => keepingTime("in", () => twice("in"))],
    ["was moved away and back", () => awayAndBack("in")],
    ["is reached by a link that was made anew", () => relink()],
    ["is reached by a link that is gone", () => fs.rmSync(at("link"))],
  ] as const)("when an input %s", async (_, change) => {
    const run = (): void => {
      write("out", "output");
      change();
    };
    expect(await keeps(planOf(), { run })).toBe("input-changed");
  });

  test("when an input changed before the run, but after it was planned", async () => {
    const old = planOf();
    write("in", "other");
    expect(await keeps(old)).toBe("input-changed");
    const young = planOf();
    write("in", "another");
    told = [];
    // Unless this machine was so busy that it was not young any more.
    expect(await keeps(young)).toMatch(/^input-changed/);
  });

  test("when an input is from the future", async () => {
    const ahead = Date.now() / 1000 + 60;
    fs.utimesSync(at("in"), ahead, ahead);
    expect(await keeps(planOf())).toBe("input-changed before");
  });

  test("when the plan's own checks say so, by their first word", async () => {
    const refuse = async (): Promise<never> => {
      throw new MeshError("refused", "link-miss: it read what is no input");
    };
    expect(await keeps(planOf({ checkHere: refuse }))).toBe("link-miss");
    told = [];
    expect(await keeps(planOf({ check: refuse }))).toBe("link-miss");
  });

  test("when the store fails, and the failure is told by its code", async () => {
    afterCopy = () => {
      throw new MeshError("no-space", "ENOSPC: writing a blob");
    };
    expect(await keeps(planOf())).toBe("no-space");
  });
});

test("an input that was written just now is waited for, and then it is kept", async () => {
  write("in", "younger");
  expect(await keeps(planOf())).toBe(undefined);
});

test("the plan's own check of the run comes after the copy, also of a run that failed", async () => {
  const checkHere = async (): Promise<void> => void told.push("checked");
  expect(await keeps(planOf({ checkHere }), { exitCode: 1 })).toBe("exit-code 1");
  expect(told).toEqual(["copied", "checked"]);
});

test("nothing is said to be copied before it has been", async () => {
  beforeCopy = () => void told.push("copying");
  afterCopy = () => void told.push("has been");
  expect(await keeps(planOf())).toBe(undefined);
  expect(told).toEqual(["copying", "has been", "copied"]);
});

function keepingTime(name: string, change: () => void): void {
  const { atime, mtime } = fs.statSync(at(name));
  change();
  fs.utimesSync(at(name), atime, mtime);
}

function replace(name: string, text: string): void {
  write(`${name}.new`, text);
  fs.renameSync(at(`${name}.new`), at(name));
}

function replaceByFolder(name: string): void {
  fs.rmSync(at(name));
  fs.mkdirSync(at(name));
}

function twice(name: string): void {
  write(name, "other");
  write(name, "input");
}

function awayAndBack(name: string): void {
  fs.renameSync(at(name), at("away"));
  fs.renameSync(at("away"), at(name));
}

function relink(): void {
  fs.rmSync(at("link"));
  fs.symlinkSync("elsewhere", at("link"));
  fs.rmSync(at("link"));
  fs.symlinkSync("in", at("link"));
}
