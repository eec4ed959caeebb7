/**
 * For tests: a folder of CUDA sources, nvcc's course over it with a memory for results, and the
 * real nvcc to hold it against.
 */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { encodeAction } from "../action/encode.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { createFileView } from "../exec/file-view.ts";
import { createToolchains } from "../exec/toolchain.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createProcesses } from "../host/processes.ts";
import { createGccPlanner } from "./gcc.ts";
import { createNvcc, type NvccEnd, type RunStep, type StepEnd } from "./nvcc.ts";
import { scratchRoots } from "./nvcc-scratch.ts";
import { canStage, createStage } from "./staged-root.contract.ts";

/** Empty where there is none. */
export const nvccPath: string = spawnSync("which", ["nvcc"], { encoding: "utf8" }).stdout.trim();

export interface Ran {
  readonly end: NvccEnd;
  /** Labels of the steps that ran, and of those that were known. */
  readonly ran: readonly string[];
  readonly found: readonly string[];
  /** Where the steps wrote. */
  readonly folders: ReadonlySet<string>;
}

export interface Ways {
  /** Run steps in a root that holds nothing but their inputs. */
  readonly staged?: boolean;
  /** Look up and keep the command as a whole. */
  readonly whole?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly onStep?: (label: string) => void;
  readonly signal?: AbortSignal;
}

export interface NvccWorld {
  readonly folder: string;
  write(name: string, text: string): void;
  serve(args: readonly string[], ways?: Ways): Promise<Ran>;
  /** The real nvcc, as the first process of a machine of its own where that can be had. */
  plain(args: readonly string[], tmp?: string): { status: number | null; stderr: string };
  /** Names the bytes of an object: the same name, the same bytes. */
  objectOf(name: string): string;
  /** Its bytes less the number of nvcc's process, which is text of a fixed length. */
  numberless(name: string): string;
  /** Results are known until this. */
  forget(): void;
  close(): Promise<void>;
}

type Kept = StepEnd & { readonly outputs: ReadonlyMap<string, Buffer> };

const { signal } = new AbortController();
const shimFolder = "/mesh shims";
const env = { PATH: `${dirname(nvccPath)}:/usr/bin:/bin`, LANG: "C.UTF-8" };

export function createNvccWorld(): NvccWorld {
  const stage = createStage();
  const disk = createDisk();
  const clock = createClock();
  const processes = createProcesses();
  const { store } = stage;
  const view = createFileView({ disk, store, clock });
  const toolchains = createToolchains({ disk, processes, store, clock, view });
  const limits = { platform: "linux/test", timeoutMs: 300_000 };
  const planGcc = createGccPlanner({ disk, processes, store, toolchains, clock, view }, limits);
  const deps = { disk, processes, clock, view, toolchains, planGcc };
  const nvcc = createNvcc(deps, { ...limits, isShimFolder: (folder) => folder === shimFolder });
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "mesh nvcc-")));
  const known = new Map<string, Kept>();

  function numberless(name: string): string {
    const text = readFileSync(join(folder, name)).toString("latin1");
    return text.replaceAll(/tmpxft_[0-9a-f]{8}_[0-9a-f]{8}/g, "tmpxft_XXXXXXXX_XXXXXXXX");
  }

  return {
    folder,
    numberless,
    forget: () => known.clear(),
    write(name, text) {
      const path = join(folder, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
      // Older than anything that a clock's grain could hide.
      utimesSync(path, new Date(1e12), new Date(1e12));
    },
    async serve(args, ways = {}) {
      const ran: string[] = [];
      const found: string[] = [];
      const folders = new Set<string>();
      const runStep: RunStep = async (step, during) => {
        const { plan, whole } = step;
        ways.onStep?.(plan.label);
        if (!whole || ways.whole) {
          if (plan.at === "anywhere")
            for (const path of plan.spec.outputPaths) folders.add(dirname(path));
        }
        if (plan.at === "here" || (whole && !ways.whole)) {
          if (!whole) ran.push(plan.label);
          return step.runHere(during);
        }
        const { digest } = encodeAction(plan.spec);
        const before = known.get(digest);
        if (before !== undefined) {
          for (const [path, bytes] of before.outputs) writeFileSync(path, bytes);
          found.push(plan.label);
          return before;
        }
        if (!whole) ran.push(plan.label);
        if (ways.staged && !whole) {
          const { exitCode, stdout, stderr, outputs } = stage.run(plan.spec);
          for (const [path, bytes] of outputs) writeFileSync(path, bytes);
          const kept = { exitCode, stdout: utf8(stdout), stderr: utf8(stderr), outputs };
          if (exitCode === 0) known.set(digest, kept);
          return kept;
        }
        const end = await step.runHere(during);
        if (end.exitCode !== 0) return end;
        await plan.checkHere?.();
        const outputs = new Map<string, Buffer>();
        for (const path of plan.spec.outputPaths)
          if (existsSync(path)) outputs.set(path, readFileSync(path));
        const missing = plan.required.filter((path) => !outputs.has(path));
        if (missing.length > 0) throw new Error(`${plan.label} did not write ${missing}`);
        known.set(digest, { ...end, outputs });
        return end;
      };
      const path = `${shimFolder}:${env.PATH}`;
      const called = { ...env, PATH: path, ...ways.env };
      const invocation = { args, compiler: nvccPath, cwd: folder, env: called, umask: 0o022 };
      const end = await nvcc.serve({ invocation, runStep }, ways.signal ?? signal);
      return { end, ran, found, folders };
    },
    plain(args, tmp) {
      const alone = ["--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"];
      const before = canStage ? ["bwrap", ...alone, "--unshare-pid", "--as-pid-1", "--"] : [];
      const [program = "", ...rest] = [...before, nvccPath, ...args];
      const called = { ...env, ...(tmp && { TMPDIR: tmp }) };
      const ran = spawnSync(program, rest, { cwd: folder, env: called, encoding: "utf8" });
      return { status: ran.status, stderr: ran.stderr };
    },
    objectOf(name) {
      const bytes = canStage ? readFileSync(join(folder, name)) : utf8(numberless(name));
      return digestOf(bytes);
    },
    async close() {
      stage.close();
      rmSync(folder, { recursive: true, force: true });
      removeEmpty();
      await processes.close();
    },
  };
}

/** Folders for intermediate files that nobody removed. */
export function leftovers(): readonly string[] {
  const below = (path: string): string[] =>
    existsSync(path) ? readdirSync(path).map((name) => join(path, name)) : [];
  return scratchRoots.flatMap(below).flatMap(below);
}

/** Those in use stay. */
function removeEmpty(): void {
  for (const root of scratchRoots) {
    const buckets = existsSync(root) ? readdirSync(root).map((name) => join(root, name)) : [];
    for (const path of existsSync(root) ? [...buckets, root] : []) {
      try {
        rmdirSync(path);
      } catch {
        // Not empty.
      }
    }
  }
}
