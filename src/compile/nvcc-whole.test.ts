import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { PlannedStep } from "./nvcc-plans.ts";
import { type WholeParts, wholePlan } from "./nvcc-whole.ts";

const file = (path: string): TreeEntry => ({
  kind: "file",
  path,
  digest: digestOf(new TextEncoder().encode(path)),
  executable: false,
});
const facts = { files: [], asked: [], versions: [] };

function step(argv: readonly string[], ...paths: readonly string[]): PlannedStep {
  const spec = {
    argv,
    env: {},
    cwd: "/p",
    outputPaths: [],
    inputs: paths.map(file),
    platform: {},
    timeoutMs: 1,
  };
  const plan = { at: "anywhere", kind: "cuda", label: "x", spec, required: [], facts } as const;
  return { plan, argv, env: {}, cwd: "/p" };
}

const parts: WholeParts = {
  invocation: { args: ["-c", "x.cu"], compiler: "/nvcc", cwd: "/p", env: {}, umask: 0 },
  source: "x.cu",
  folder: "/s",
  graph: { nodes: [], object: "x.o", copies: new Map() },
  notes: "",
  reading: [step(["gcc"], "/p/x.cu", "/s/host.ii")],
  headers: step(["gcc"], "/cuda/host_runtime.h"),
  programs: [{ path: "/cicc", entries: [file("/cicc")], facts }],
  facts,
  dependencyPath: undefined,
  objectPath: "/p/x.o",
  timeoutMs: 1,
  hostInputs: () => [file("/cuda/host_runtime.h"), file("/s/x.cpp")],
};

test("a whole command has every input of its parts but their intermediate files", () => {
  const paths = wholePlan(parts)?.spec.inputs.map(({ path }) => path);
  expect(paths).toEqual(["/p/x.cu", "/cuda/host_runtime.h", "/cicc"]);
});

test("nothing is known of a whole command when a part of it is not shared", () => {
  const plan = { at: "here", reason: "time-macro", kind: "cuda", label: "x" } as const;
  expect(wholePlan({ ...parts, reading: [{ ...step([]), plan }] })).toBeUndefined();
});

test("other steps, or other words of nvcc, make another action", () => {
  const env = (changed: Partial<WholeParts>) => wholePlan({ ...parts, ...changed })?.spec.env;
  expect(env({})).toEqual(env({}));
  expect(env({ notes: "nvcc warning : old\n" })).not.toEqual(env({}));
  const reading = [step(["gcc", "-march=x"], "/p/x.cu")];
  expect(env({ reading })).not.toEqual(env({}));
});

test("its result is refused when the host compile read a file that is no input", async () => {
  await expect(wholePlan(parts)?.checkHere?.()).resolves.toBeUndefined();
  const other = wholePlan({ ...parts, hostInputs: () => [file("/cuda/other.h")] });
  await expect(other?.checkHere?.()).rejects.toMatchObject({ code: "refused" });
  const unknown = wholePlan({ ...parts, hostInputs: () => undefined });
  await expect(unknown?.checkHere?.()).rejects.toMatchObject({ code: "refused" });
});
