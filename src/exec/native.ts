/**
 * Runs a command in the sandbox: builds its room, runs it, takes its outputs into the store,
 * removes the room.
 *
 * What the command did (exit code 1 included) is a result. What kept it from running or from
 * being understood is a failure with a code, so that the two can never be mixed up. It does not
 * know for whom an action runs.
 */
import type { ActionOutcome, ActionSpec, Execute, Progress } from "../action/action.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { type Digest, digestOf, emptyDigest, hashHexOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Disk, Processes, RunResult } from "../host/host.ts";
import { createArtifactWatch } from "./artifacts.ts";
import { createCapture, type Site } from "./capture.ts";
import { type LayoutOptions, planLayout } from "./sandbox/layout.ts";
import { createLimits, type Group, type Limits } from "./sandbox/limits.ts";
import { createOpenGround } from "./sandbox/none.ts";
import type { Sandbox } from "./sandbox/probe.ts";
import { buildRoom, removeRoom, roomPrefix } from "./sandbox/room.ts";
import { createRoots, type Roots } from "./sandbox/root.ts";
import { toolEnv } from "./sandbox/walls.ts";
import { checkShape } from "./shape.ts";

export interface NativeDeps {
  readonly processes: Processes;
  readonly disk: Disk;
  readonly store: BlobStore;
  readonly emit: Emit;
  readonly sandbox: Sandbox;
}

export interface NativeOptions {
  /** For rooms; on the file system of the blob store, so that inputs can be hard links. */
  readonly tmpDir: string;
  /** No action gets more time than this, whatever it asks for. */
  readonly timeoutMaxMs: number;
  /** Of stdout and of stderr. */
  readonly printedMaxBytes: number;
  /** Of all outputs of one action. */
  readonly outputsMaxBytes: number;
  readonly memoryMaxBytes: number;
  readonly processesMax: number;
}

export const nativeDefaults: Omit<NativeOptions, "tmpDir"> = {
  timeoutMaxMs: 60 * 60 * 1000,
  printedMaxBytes: 16 * 1024 * 1024,
  outputsMaxBytes: 2 * 1024 * 1024 * 1024,
  memoryMaxBytes: 8 * 1024 * 1024 * 1024,
  processesMax: 512,
};

export interface NativeExecutor {
  /**
   * Codes: "deadline", "malformed", "unsupported", "refused" (an output is no regular file),
   * "limit" (it printed or wrote too much), "io" (the sandbox could not be built), "no-space",
   * "blob-missing". Rejects with `signal.reason` on abort, once every process is gone.
   */
  readonly execute: Execute;
  /** What bounds the memory of a run here. */
  memoryLimitKind(): ReturnType<Limits["kind"]>;
  /** Waits until every room is removed, then gives back control groups. Call after the last run. */
  close(): Promise<void>;
}

/** Roots kept for the next action; more than run at once are of no use. */
const idleRootsMax = 64;

/** Rooms being removed at once. */
const removalsMax = 8;

const layoutOptions: LayoutOptions = { copyMaxBytes: 1024 * 1024, fileMountsMax: 256 };

/** One run's surroundings, whatever the tier. */
interface Stage {
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly site: Site;
  /** Why the command never ran, if it did not. */
  verdict(result: RunResult): Promise<string | undefined>;
  leave(): Promise<void>;
}

export function createNativeExecutor(deps: NativeDeps, options: NativeOptions): NativeExecutor {
  const { emit, sandbox } = deps;
  const limits = createLimits(deps, {
    memoryMaxBytes: options.memoryMaxBytes,
    processesMax: options.processesMax,
    fileMaxBytes: options.outputsMaxBytes,
    groupName: hashHexOf(digestOf(utf8(options.tmpDir))).slice(0, 12),
  });
  const removals = new Set<Promise<void>>();
  let count = 0;

  /**
   * Not waited for by the run: a room of 500 names takes longer to remove than to build. The next
   * run waits when too many are being removed.
   */
  function removeLater(roomDir: string): void {
    const removal = removeRoom(deps, roomDir, new AbortController().signal)
      .then((left) => {
        if (left !== undefined) emit({ event: "log", level: "warn", message: left });
      })
      .finally(() => removals.delete(removal));
    removals.add(removal);
  }

  const roots = createRoots(deps, {
    nextDir: () => `${options.tmpDir}/${roomPrefix}root-${count++}`,
    remove: removeLater,
    idleMax: idleRootsMax,
    idleMaxBytes: deps.store.stats().quotaBytes / 4,
  });
  const enterStage =
    sandbox.tier === "none" ? createOpenStage(deps) : createWalledStage(deps, roots);

  const execute: Execute = async (spec, onProgress, signal) => {
    signal.throwIfAborted();
    if (sandbox.tier === "")
      throw new MeshError("unsupported", `this node has no sandbox (${sandbox.why})`);
    checkShape(spec);
    while (removals.size >= removalsMax) await Promise.race(removals);
    signal.throwIfAborted();
    const roomDir = `${options.tmpDir}/${roomPrefix}${count++}`;
    let group: Group | undefined;
    let stage: Stage | undefined;
    try {
      stage = await enterStage(spec, roomDir, signal);
      group = await limits.takeGroup(signal);
      const argv = limits.wrap(stage.argv, `${roomDir}/status`, group);
      return await runOn(deps, stage, { spec, argv, options, onProgress }, signal);
    } finally {
      if (group !== undefined) limits.giveBack(group);
      removeLater(roomDir);
      await stage?.leave();
    }
  };

  return {
    execute,
    memoryLimitKind: limits.kind,
    async close() {
      roots.close();
      while (removals.size > 0) await Promise.all(removals);
      await limits.close();
    },
  };
}

interface Run {
  readonly spec: ActionSpec;
  readonly argv: readonly [string, ...string[]];
  readonly options: NativeOptions;
  readonly onProgress: (progress: Progress) => void;
}

async function runOn(
  deps: NativeDeps,
  stage: Stage,
  { spec, argv, options, onProgress }: Run,
  signal: AbortSignal,
): Promise<ActionOutcome> {
  const capture = createCapture(deps, stage.site, options);
  const watch = createArtifactWatch(spec, capture.early, onProgress);
  const timeoutMs = Math.min(spec.timeoutMs, options.timeoutMaxMs);
  const result = await deps.processes
    .run(
      {
        argv,
        env: toolEnv,
        cwd: stage.cwd,
        timeoutMs,
        outputMaxBytes: options.printedMaxBytes,
        onStderr: watch.onStderr,
      },
      signal,
    )
    .finally(() => watch.settled().catch(() => {}));
  if (result.timedOut)
    throw new MeshError("deadline", `the command was stopped after ${timeoutMs} ms`);
  if (result.outputOverflow)
    throw new MeshError("limit", `the command printed more than ${options.printedMaxBytes} bytes`);
  const failure = await stage.verdict(result);
  if (failure !== undefined)
    throw new MeshError("io", `the sandbox (${deps.sandbox.tier}) could not run it: ${failure}`);
  await watch.settled();
  const outputs = await capture.all();
  signal.throwIfAborted();
  return {
    exitCode: result.exitCode,
    outputs,
    stdout: await putPrinted(deps.store, result.stdout),
    stderr: await putPrinted(deps.store, result.stderr),
  };
}

async function putPrinted(store: BlobStore, bytes: Uint8Array): Promise<Digest> {
  return bytes.byteLength === 0 ? emptyDigest : store.put(bytes);
}

type EnterStage = (spec: ActionSpec, roomDir: string, signal: AbortSignal) => Promise<Stage>;

function createWalledStage({ disk, store, sandbox }: NativeDeps, roots: Roots): EnterStage {
  return async (spec, roomDir, signal) => {
    const { walls } = sandbox;
    if (walls === undefined) throw new MeshError("unsupported", sandbox.why);
    const layout = planLayout(spec, layoutOptions);
    const root = await roots.take(layout, signal);
    try {
      const room = await buildRoom({ disk, store }, layout, { roomDir, rootDir: root.dir }, signal);
      const argv = await walls.enclose(room, spec);
      const places = new Map<string, string>();
      for (const [path, place] of layout.outputs) places.set(path, room.hostPathOf(place));
      return {
        argv,
        cwd: "/",
        site: { places, before: room.before, keepDir: room.keepDir },
        async verdict(result) {
          const status = await disk.read(`${roomDir}/status`).catch(() => new Uint8Array());
          return walls.verdict(textOf(status), result);
        },
        async leave() {
          roots.giveBack(root);
          await walls.tidyUp();
        },
      };
    } catch (error) {
      roots.giveBack(root);
      throw error;
    }
  };
}

function createOpenStage({ disk }: NativeDeps): EnterStage {
  const ground = createOpenGround({ disk });
  return async (spec, roomDir) => {
    await disk.makeDirectory(roomDir);
    const visit = await ground.enter(spec);
    return {
      argv: ground.command(spec),
      cwd: spec.cwd,
      site: {
        places: new Map(spec.outputPaths.map((path) => [path, path])),
        before: new Map(),
        keepDir: undefined,
      },
      // `env` says so itself when it cannot start the command, and uses these codes for it.
      verdict: async ({ exitCode, stderr }) => {
        const line = textOf(stderr.subarray(0, 300)).split("\n", 1)[0] ?? "";
        const isEnv = [125, 126, 127].includes(exitCode) && line.startsWith("env: ");
        return isEnv ? line : undefined;
      },
      leave: visit.leave,
    };
  };
}
