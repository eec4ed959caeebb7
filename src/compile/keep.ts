/**
 * Turns what a task's own run gave into a known result, unless something speaks against it: an
 * input that changed meanwhile, a file that was read and is no input, an output that is missing.
 */
import { dirname } from "node:path";
import { type ActionOutcome, blobsOf, type OutputBlob } from "../action/action.ts";
import type { Results } from "../action/results.ts";
import { isMeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import { factsHold, factsUndisturbed } from "../exec/facts.ts";
import type { FileView } from "../exec/file-view.ts";
import type { Clock, Disk, FileStat } from "../host/host.ts";
import type { Planned, RunInPlace } from "./course.ts";

export interface KeepDeps {
  readonly store: Pick<BlobStore, "put" | "putFile" | "read" | "pin">;
  readonly disk: Pick<Disk, "statNow" | "read" | "append" | "freeBytes">;
  readonly clock: Clock;
  readonly view: FileView;
  readonly results: Pick<Results, "keep">;
}

type SharedPlan = Extract<Planned, { at: "anywhere" }>;

export interface Keep {
  /**
   * Before a run in place. An input written just now could be written once more under the same
   * time stamp, and nobody would see it: waits until that cannot be, at most 10 ms. Resolves to
   * the wall clock at which every input was as planned; undefined when one is not.
   */
  settle(plan: SharedPlan, plannedMs: number, signal: AbortSignal): Promise<number | undefined>;
  /** Why what `hereArgs` has the tool write has no place, so that the tool would fail. */
  whyNoList(plan: SharedPlan): Promise<string | undefined>;
  /**
   * After a run in place. Calls `copied` once nothing needs the outputs where they are any more.
   * Resolves to why nothing is kept, or undefined. Never rejects because of the result.
   */
  inPlace(plan: SharedPlan, run: KeptRun, copied: () => void): Promise<string | undefined>;
  /** After a run in the sandbox, which saw nothing but the inputs. */
  outcome(plan: SharedPlan, outcome: ActionOutcome, runMs: number): Promise<string | undefined>;
  /** What a result is elsewhere, if it does not depend on the place. */
  portable(plan: SharedPlan, outcome: ActionOutcome, runMs: number): Promise<void>;
}

export interface KeptRun {
  readonly ran: RunInPlace;
  readonly runMs: number;
  /** Wall clock; an input touched since then may have been read in another state. */
  readonly sinceMs: number;
}

/** Time stamps of files come from a clock that the kernel moves this seldom, at worst. */
const stampStepMs = 10;
/** Many compilers may write their lists at the same time. */
const hereFileMaxBytes = 4 * 1024 * 1024;

export function createKeep(deps: KeepDeps): Keep {
  const { store, disk, view, results, clock } = deps;

  async function settle(
    { facts }: SharedPlan,
    plannedMs: number,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    let youngestMs = 0;
    for (const node of facts.files)
      youngestMs = Math.max(youngestMs, view.lastTouchedMs(node) ?? 0);
    if (youngestMs < plannedMs - stampStepMs) return plannedMs;
    const nowMs = clock.wallMs();
    // From the future: no clock will tell.
    if (youngestMs > nowMs) return undefined;
    await clock.sleep(Math.max(0, youngestMs + stampStepMs + 1 - nowMs), signal);
    const seenMs = clock.wallMs();
    return factsHold(facts, view.look()) ? seenMs : undefined;
  }

  async function whyNoList({ hereFile }: SharedPlan): Promise<string | undefined> {
    if (hereFile === undefined) return undefined;
    try {
      if ((await disk.freeBytes(dirname(hereFile))) < hereFileMaxBytes) return "no-space";
      await disk.append(hereFile, new Uint8Array(0));
      return undefined;
    } catch (error) {
      if (!isMeshError(error)) throw error;
      return error.code;
    }
  }

  async function copyOutputs(
    plan: SharedPlan,
    ran: RunInPlace,
    sinceMs: number,
  ): Promise<readonly OutputBlob[] | string> {
    if (ran.exitCode !== 0) return `exit-code ${ran.exitCode}`;
    if (ran.output === undefined) return "output-too-long";
    const found: { path: string; executable: boolean; stat: FileStat }[] = [];
    for (const path of plan.spec.outputPaths) {
      const stat = disk.statNow(path);
      // What lay there before is no output of this run, which just did not write it.
      if (stat === undefined || Number(stat.ctimeNs / 1_000_000n) < sinceMs - stampStepMs) {
        if (plan.required.includes(path)) return "output-missing";
        continue;
      }
      if (stat.kind !== "file") return "output-not-a-file";
      found.push({ path, executable: (stat.mode & 0o111) !== 0, stat });
    }
    const outputs = await Promise.all(
      found.map(async ({ path, executable }) => {
        return { path, executable, digest: await store.putFile(path) };
      }),
    );
    // The shim does not wait for ever, and then somebody else may have written meanwhile.
    const untouched = found.every(({ path, stat }) => isSame(stat, disk.statNow(path)));
    return untouched ? outputs : "output-changed";
  }

  async function inPlace(
    plan: SharedPlan,
    { ran, runMs, sinceMs }: KeptRun,
    copied: () => void,
  ): Promise<string | undefined> {
    const outputs = await copyOutputs(plan, ran, sinceMs).catch(whyNot).finally(copied);
    // Also when nothing is kept: it cleans up after itself.
    const unexpected = await plan.checkHere?.().then(() => undefined, whyNot);
    if (typeof outputs === "string") return outputs;
    if (unexpected !== undefined || ran.output === undefined) return unexpected;
    const beforeMs = sinceMs - stampStepMs;
    if (!factsUndisturbed(plan.facts, view.look(), beforeMs)) return "input-changed";
    if (!linksUndisturbed(plan, beforeMs)) return "input-changed";
    await check(plan, outputs);
    const [stdout, stderr] = await Promise.all([
      store.put(ran.output.stdout),
      store.put(ran.output.stderr),
    ]);
    return outcome(plan, { exitCode: 0, outputs, stdout, stderr }, runMs);
  }

  /** One that was made anew may have led elsewhere in between. */
  function linksUndisturbed({ spec }: SharedPlan, sinceMs: number): boolean {
    const sinceNs = BigInt(Math.floor(sinceMs * 1000)) * 1000n;
    return spec.inputs.every(({ kind, path }) => {
      const stat = kind === "symlink" ? disk.statNow(path) : undefined;
      return kind !== "symlink" || (stat !== undefined && stat.ctimeNs < sinceNs);
    });
  }

  async function check(plan: SharedPlan, outputs: readonly OutputBlob[]): Promise<void> {
    const digests = new Map(outputs.map(({ path, digest }) => [path, digest]));
    await plan.check?.(async (path) => {
      const digest = digests.get(path);
      return digest === undefined ? undefined : store.read(digest);
    });
  }

  async function outcome(
    plan: SharedPlan,
    result: ActionOutcome,
    runMs: number,
  ): Promise<string | undefined> {
    results.keep(plan.action.digest, result, runMs);
    await portable(plan, result, runMs);
    return undefined;
  }

  async function portable(plan: SharedPlan, result: ActionOutcome, runMs: number): Promise<void> {
    if (plan.portable === undefined || plan.portableAction === undefined) return;
    const pin = store.pin(blobsOf(result));
    try {
      const elsewhere = await plan.portable.toPortable(result);
      if (elsewhere !== undefined) results.keep(plan.portableAction.digest, elsewhere, runMs);
    } finally {
      pin.release();
    }
  }

  return {
    settle,
    whyNoList,
    inPlace: (plan, run, copied) => inPlace(plan, run, copied).catch(whyNot),
    outcome: (plan, result, runMs) => outcome(plan, result, runMs).catch(whyNot),
    portable: (plan, result, runMs) =>
      portable(plan, result, runMs).catch((error) => void whyNot(error)),
  };
}

function isSame(before: FileStat, after: FileStat | undefined): boolean {
  return (
    before.inode === after?.inode &&
    before.sizeBytes === after.sizeBytes &&
    before.mtimeNs === after.mtimeNs &&
    before.ctimeNs === after.ctimeNs
  );
}

/** Planned failures say by their text what is wrong; the disk's and the store's by their code. */
function whyNot(error: unknown): string {
  if (!isMeshError(error)) throw error;
  const [, reason] = /^([a-z-]+): /.exec(error.message) ?? [];
  return reason ?? error.code;
}
