/**
 * For tests: the course of Rust units on one node with a memory, as `course.ts` has it, with a
 * plain map where the mesh has records. Compilers and sandbox are real.
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { expect } from "vitest";
import type { ActionOutcome } from "../action/action.ts";
import { encodeAction } from "../action/encode.ts";
import type { Digest } from "../base/digest.ts";
import { messageOf } from "../base/errors.ts";
import type { Invocation } from "./plan.ts";
import { never, type Peer } from "./rust-world.contract.ts";
import type { RustPlan } from "./rustc.ts";

export type Fate =
  /** A known result, of this checkout or any. */
  | "hit"
  | "portable hit"
  /** It ran, and is known from now on. */
  | "kept"
  /** It ran, and nothing is known: why. */
  | `not kept: ${string}`
  /** There was no action: why. */
  | `local: ${string}`;

export interface RustCourse {
  /** Makes a unit, and makes it once more without any of us: both have to be the same bytes. */
  make(call: Invocation): Promise<Fate>;
  /** Makes a unit without comparing. */
  run(call: Invocation): Promise<Fate>;
}

export function createRustCourse(peer: Peer): RustCourse {
  const { store } = peer.world;
  const known = new Map<Digest, ActionOutcome>();

  async function check(plan: RustPlan, outcome: ActionOutcome): Promise<void> {
    const digests = new Map(outcome.outputs.map(({ path, digest }) => [path, digest]));
    await plan.check?.(async (path) => {
      const digest = digests.get(path);
      return digest && store.read(digest);
    });
  }

  async function place(outcome: ActionOutcome): Promise<void> {
    for (const { path, digest, executable } of outcome.outputs) {
      fs.rmSync(path, { force: true });
      fs.mkdirSync(dirname(path), { recursive: true });
      fs.writeFileSync(path, await store.read(digest), { mode: executable ? 0o755 : 0o644 });
    }
  }

  async function keep(plan: RustPlan, outcome: ActionOutcome): Promise<void> {
    known.set(encodeAction(plan.spec).digest, outcome);
    const portable = await plan.portable?.toPortable(outcome);
    if (plan.portable && portable) known.set(encodeAction(plan.portable.spec).digest, portable);
  }

  async function recall(plan: RustPlan): Promise<Fate | undefined> {
    const here = known.get(encodeAction(plan.spec).digest);
    const there = plan.portable && known.get(encodeAction(plan.portable.spec).digest);
    const outcome = here ?? (there && (await plan.portable?.fromPortable(there)));
    if (outcome === undefined) return undefined;
    try {
      await check(plan, outcome);
    } catch {
      return undefined;
    }
    await place(outcome);
    return here === undefined ? "portable hit" : "hit";
  }

  async function inSandbox(plan: RustPlan, call: Invocation): Promise<Fate> {
    const outcome = await peer.world.native.execute(plan.spec, () => {}, never);
    try {
      if (outcome.exitCode !== 0) {
        await plan.failed(outcome);
        throw new Error(`exit code ${outcome.exitCode}`);
      }
      await check(plan, outcome);
    } catch (error) {
      plainly(call, plan.hereArgs);
      await plan.checkHere?.().catch(() => {});
      return `not kept: ${messageOf(error)}`;
    }
    await place(outcome);
    await keep(plan, outcome);
    return "kept";
  }

  async function inPlace(plan: RustPlan, call: Invocation): Promise<Fate> {
    const stderr = plainly(call, plan.hereArgs);
    try {
      await plan.checkHere?.();
      if (!peer.files.hold(plan.facts)) return "not kept: input-changed";
      const outputs = await Promise.all(
        plan.spec.outputPaths.map(async (path) => {
          const executable = (fs.statSync(path).mode & 0o111) !== 0;
          return { path, digest: await store.putFile(path), executable };
        }),
      );
      const [out, err] = await Promise.all([store.put(new Uint8Array(0)), store.put(stderr)]);
      const outcome = { exitCode: 0, outputs, stdout: out, stderr: err };
      await check(plan, outcome);
      await keep(plan, outcome);
      return "kept";
    } catch (error) {
      return `not kept: ${messageOf(error)}`;
    }
  }

  async function run(call: Invocation): Promise<Fate> {
    const plan = await peer.plan(call, never);
    if (plan.at === "here") {
      plainly(call);
      return `local: ${plan.reason}`;
    }
    const hit = await recall(plan);
    if (hit !== undefined) return hit;
    return plan.sandboxed ? inSandbox(plan, call) : inPlace(plan, call);
  }

  return {
    run,
    async make(call) {
      const fate = await run(call);
      const made = outputsOf(call);
      plainly(call);
      const plain = outputsOf(call);
      expect([...made.keys()]).toEqual([...plain.keys()]);
      for (const [path, bytes] of plain)
        expect(made.get(path)?.equals(bytes), `${path}, ${fate}`).toBe(true);
      return fate;
    },
  };
}

/** The real compiler, in place. */
export function plainly(
  { compiler, args, cwd, env }: Invocation,
  more: readonly string[] = [],
): Uint8Array {
  const ran = spawnSync(compiler, [...more, ...args], { cwd, env });
  if (ran.status !== 0) throw new Error(`${args.join(" ")}: ${ran.stderr}`);
  return ran.stderr;
}

/** Everything in its folder of outputs that bears the crate's name. */
function outputsOf({ args }: Invocation): Map<string, Buffer> {
  const after = (option: string): string => args[args.indexOf(option) + 1] ?? "";
  const folder = after("--out-dir");
  const crate = after("--crate-name");
  const extra = args.find((arg) => arg.startsWith("extra-filename="))?.slice(15) ?? "";
  const names = fs.readdirSync(folder).filter((name) => {
    const stem = name.replace(/^lib/, "").replace(/\.(?:d|rlib|rmeta|so|a)$/, "");
    return stem === `${crate}${extra}`;
  });
  return new Map(names.sort().map((name) => [name, fs.readFileSync(`${folder}/${name}`)]));
}
