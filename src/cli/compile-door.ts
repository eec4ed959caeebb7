/**
 * The compile door of a node on this machine: planners for every tool it knows, and the course of
 * their tasks, wired to the node's parts.
 */
import { join } from "node:path";
import { encodeAction } from "../action/encode.ts";
import { createArPlanner } from "../compile/ar.ts";
import { createCourse } from "../compile/course.ts";
import { type CompileDoor, type CompileDoorDeps, createCompileDoor } from "../compile/door.ts";
import { createGccPlanner } from "../compile/gcc.ts";
import { createGccOrLink } from "../compile/gcc-or-link.ts";
import type { History } from "../compile/history.ts";
import { createInputFiles } from "../compile/inputs.ts";
import { createLdPlanner, createLinkPlanner } from "../compile/link.ts";
import { createNvcc } from "../compile/nvcc.ts";
import { createRustcPlanner } from "../compile/rustc.ts";
import { createRustToolchains } from "../compile/rustc-toolchain.ts";
import { shimMarker } from "../compile/shim-build.ts";
import { createFileView, type FileView } from "../exec/file-view.ts";
import { createToolchains } from "../exec/toolchain.ts";
import type { OpenNode } from "../node/open.ts";

const compileMaxMs = 60 * 60 * 1000;
const buildsMax = 64;

/** Codes: those of the disk, when the data directory cannot be written. */
export async function openCompileDoor(node: OpenNode, history: History): Promise<CompileDoor> {
  const { host, store, exchange, owner, events, directory, slots, results } = node;
  const { disk, clock, random } = host;
  const { emit } = events;
  const view = createFileView({ disk, store, clock });
  // Lists that linkers write. What a crash left there is of no use to anybody.
  const scratch = join(node.paths.tmp, "lists");
  await disk.remove(scratch);
  await disk.makeDirectory(scratch);
  // The tracer, and what is known of linkers: worth keeping between builds.
  const rustFolder = join(node.paths.dataDir, "rust");
  await disk.makeDirectory(rustFolder);
  const course = createCourse({
    ...{ self: node.self, owner, exchange, results, emit, history, store, disk, clock, view },
    execute: node.boxed,
    idPrefix: Buffer.from(random.bytes(8)).toString("hex"),
  });
  return createCompileDoor(
    {
      ...{ course, clock, disk, store, exchange, emit, view, encodeAction },
      ...createPlanners(node, view, { scratch, rustFolder }),
      peersPresent: () => directory.peers().length > 0,
      slotFree: () => slots.busy < slots.count && owner.load().queued === 0,
      cpuMs() {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1000;
      },
    },
    { buildsMax },
  );
}

type Planners = Pick<CompileDoorDeps, "plannerFor" | "nvcc">;

function createPlanners(
  node: OpenNode,
  view: FileView,
  { scratch, rustFolder }: { readonly scratch: string; readonly rustFolder: string },
): Planners {
  const { host, store, platform } = node;
  const { disk, clock, processes, random } = host;
  const files = createInputFiles(view);
  const toolchains = createToolchains({ disk, processes, store, clock, view });
  const options = { platform, timeoutMs: compileMaxMs, scratch };
  const links = { disk, processes, view };
  const { elfClosure } = toolchains;
  const rustToolchains = createRustToolchains({ disk, processes, files, elfClosure });
  const gcc = createGccPlanner({ disk, processes, store, toolchains, clock, view }, options);
  // What nvcc has its host compiler do is run by itself, without arguments of ours.
  const passes = createGccPlanner(
    { disk, processes, store, toolchains, clock, view },
    { platform, timeoutMs: compileMaxMs },
  );
  const link = createLinkPlanner(links, options);
  const gccOrLink = createGccOrLink(gcc, link);
  const rustc = createRustcPlanner(
    { disk, clock, files, toolchains: rustToolchains, random, processes, store },
    { ...options, scratch: rustFolder },
  );
  const ar = createArPlanner(links, options);
  const ld = createLdPlanner(links, options);
  const nvcc = createNvcc(
    { disk, processes, clock, view, toolchains, planGcc: passes },
    { ...options, isShimFolder: (folder) => disk.statNow(join(folder, shimMarker)) !== undefined },
  );
  return {
    nvcc,
    plannerFor(family, args) {
      switch (family) {
        case "gcc":
          return gccOrLink(args);
        case "rustc":
          return rustc;
        case "ar":
          return ar;
        case "ld":
          return ld;
        case "nvcc":
          return undefined;
      }
    },
  };
}
