/**
 * Asks nvcc what it would do, and remembers the answer for as long as everything that decides it is
 * as it was: nvcc, its profile, the host compiler, response files, and the environment.
 */
import { createRecentMap } from "../base/bounded.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import { type Facts, factsHold, factsOf, mergeFacts } from "../exec/facts.ts";
import { createTrail, type FileView, parentOf } from "../exec/file-view.ts";
import type { Toolchains } from "../exec/toolchain.ts";
import type { Disk, Processes } from "../host/host.ts";
import { familyOf } from "./gcc-verdict.ts";
import { createInputFiles } from "./inputs.ts";
import { type DryRun, parseDryRun } from "./nvcc-dryrun.ts";
import { findProgram, type NvccToolkit } from "./nvcc-toolkit.ts";

export interface NvccQuestion {
  readonly compiler: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** Without the folder of the shim in its PATH. */
  readonly env: Readonly<Record<string, string>>;
  /** Absolute. */
  readonly responseFiles: readonly string[];
}

export interface NvccAnswer {
  readonly dry: DryRun;
  /** Undefined when it is not known what the answer depends on. */
  readonly facts: Facts | undefined;
}

export interface NvccAskDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly view: FileView;
  readonly toolchains: Toolchains;
  readonly toolkit: NvccToolkit;
}

/** nvcc asks the host compiler for its version, which may be on a slow disk. */
const askMaxMs = 60_000;
const answerMaxBytes = 8 * 1024 * 1024;
const answersMax = 1024;
const scriptMaxBytes = 4096;

/** Variables that say who called, not what to do. */
const noise = /^(?:MESH_\w+|PWD|OLDPWD|SHLVL|_|MAKEFLAGS|MFLAGS|MAKELEVEL|MAKE_TERM\w+)$/;

export function createNvccAsk(
  deps: NvccAskDeps,
): (question: NvccQuestion, signal: AbortSignal) => Promise<NvccAnswer | undefined> {
  const { disk, processes, view, toolkit } = deps;
  const inputFiles = createInputFiles(view);
  const kept = createRecentMap<string, NvccAnswer & { readonly facts: Facts }>(answersMax);

  async function run(question: NvccQuestion, signal: AbortSignal): Promise<DryRun | undefined> {
    const answer = await processes.run(
      {
        argv: [question.compiler, "--dryrun", ...question.args],
        // A shim that it might find all the same then does nothing but start the compiler.
        env: { ...question.env, MESH_INSIDE: "1" },
        cwd: question.cwd,
        timeoutMs: askMaxMs,
        outputMaxBytes: answerMaxBytes,
      },
      signal,
    );
    if (answer.exitCode !== 0 || answer.stdout.byteLength > 0) return undefined;
    const text = textOf(answer.stderr);
    return text.includes("\ufffd") ? undefined : parseDryRun(text);
  }

  /** nvcc itself and its profile; a script that only starts it is followed. */
  async function driverFacts(
    compiler: string,
    libraryPath: string,
    signal: AbortSignal,
  ): Promise<Facts | undefined> {
    const programFacts = async (path: string): Promise<Facts> => {
      const real = (await disk.realPath(path)) ?? path;
      const profile = `${parentOf(real)}/nvcc.profile`;
      return (await toolkit.program(path, libraryPath, [profile], signal)).facts;
    };
    try {
      return await programFacts(compiler);
    } catch (error) {
      if (!isMeshError(error, "unsupported")) throw error;
    }
    const script = await inputFiles.find({ files: [compiler, "/bin/sh"] });
    const text = textOf(await disk.readRange(compiler, 0, scriptMaxBytes));
    const target = /^#!\/bin\/sh\nexec (\/[\w./+-]+) "\$@"\n?$/.exec(text)?.[1];
    if (target === undefined || script.missing.length > 0) return undefined;
    return mergeFacts(script.facts, await programFacts(target));
  }

  async function hostFacts(
    question: NvccQuestion,
    dry: DryRun,
    signal: AbortSignal,
  ): Promise<Facts | undefined> {
    const look = view.look();
    const trail = createTrail();
    const path = dry.variables.get("PATH") ?? "";
    const name = dry.commands.at(-1)?.[0] ?? "";
    const driver = findProgram(look, disk, name, path, trail);
    const family = familyOf((await disk.realPath(driver ?? "/")) ?? "/");
    if (driver === undefined || family === undefined) return undefined;
    const { facts } = await deps.toolchains.closure(
      {
        driver,
        family,
        language: "c++",
        flags: [],
        cwd: question.cwd,
        path,
        libraryPath: "",
        look,
      },
      signal,
    );
    return mergeFacts(facts, factsOf([], trail.asked));
  }

  async function factsOfAnswer(
    question: NvccQuestion,
    dry: DryRun,
    signal: AbortSignal,
  ): Promise<Facts | undefined> {
    try {
      const files = await inputFiles.find({ files: question.responseFiles });
      const libraryPath = question.env.LD_LIBRARY_PATH ?? "";
      const driver = await driverFacts(question.compiler, libraryPath, signal);
      const host = await hostFacts(question, dry, signal);
      if (driver === undefined || host === undefined || files.missing.length > 0) return undefined;
      return mergeFacts(files.facts, driver, host);
    } catch (error) {
      if (!isMeshError(error, "unsupported", "io")) throw error;
      return undefined;
    }
  }

  return async (question, signal) => {
    const key = keyOf(question);
    const known = kept.get(key);
    if (known !== undefined && factsHold(known.facts, view.look())) return known;
    const dry = await run(question, signal);
    if (dry === undefined) return undefined;
    const facts = await factsOfAnswer(question, dry, signal);
    // Asked again with everything seen: whatever changed meanwhile is in the second answer.
    if (facts !== undefined) kept.set(key, { dry, facts });
    return { dry, facts };
  };
}

function keyOf({ compiler, args, cwd, env }: NvccQuestion): string {
  const variables = Object.entries(env)
    .filter(([name]) => !noise.test(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return digestOf(utf8(JSON.stringify([compiler, args, cwd, variables])));
}
