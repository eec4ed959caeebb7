/**
 * Plans archives made by `ar`. The result is a function of the objects and of the command line
 * wherever the archiver leaves out times and owners, and is remembered then.
 *
 * An archive that is there already is no input: where its members are those that the command line
 * names, in the same order, all of them are replaced, and what comes of it is what a new archive
 * would be. Where they are not, the command stays here and nothing is remembered.
 */
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { factsOf, mergeFacts } from "../exec/facts.ts";
import { createTrail, type FileNode, trailEntries } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";
import { type ParsedArchive, parseArArgs } from "./ar-args.ts";
import { type Archive, readArchive } from "./ar-members.ts";
import { locateOutputs } from "./gcc-outputs.ts";
import { addEntry } from "./inputs.ts";
import { createLinkFiles, type LinkFile } from "./link-files.ts";
import {
  createRequestPlanner,
  type LinkPlannerDeps,
  type LinkRequest,
  pathFor,
} from "./link-request.ts";
import { createLinkTools } from "./link-tools.ts";
import type { Plan, Planner } from "./plan.ts";

export interface ArPlannerOptions {
  /** What the result is for, e.g. "linux/x86_64". */
  readonly platform: string;
  readonly timeoutMs: number;
}

/** Larger archives are read header by header. */
const wholeMaxBytes = 64 * 1024 * 1024;

export function createArPlanner(deps: LinkPlannerDeps, options: ArPlannerOptions): Planner {
  const { disk, view } = deps;
  const tools = createLinkTools(deps);
  const files = createLinkFiles(disk, view);

  async function plan(request: LinkRequest, signal: AbortSignal): Promise<Plan> {
    const { invocation, args, environment, look, cwd, here } = request;
    const { compiler } = invocation;
    const parsed = parseArArgs(args);
    if (parsed.at === "here") return here(parsed.reason);
    const real = look.find(look.folder("/"), compiler, createTrail());
    // It runs another archiver, with a plugin.
    if (real?.kind !== "file" || /(?:^|-)gcc-ar/.test(fileName(real.path)))
      return here("ar-wrapper");
    const { libraryPath } = environment;
    const asked = { path: compiler, emulation: undefined, libraryPath, look };
    const tool = await tools.program(asked, signal);
    const flavour = flavourOf(tool.help);
    if (flavour === undefined) return here("ar-unknown");
    if (!/\[D\].*\(default\)/.test(tool.help) && !parsed.modifiers.has("D"))
      return here("archive-times");
    const outputs = locateOutputs(look, disk, cwd.path, [parsed.archive]);
    if (outputs.at === "here") return here(outputs.reason);
    const [output = ""] = outputs.paths;
    if (!(await isAsNew(disk, output, parsed, flavour))) return here("archive-update");
    const trail = createTrail();
    const members: FileNode[] = [];
    for (const path of parsed.files) {
      const found = look.find(cwd, path, trail);
      const there = found?.kind === "file" ? await files.find(look, found.path) : undefined;
      if (there === undefined) return here(`input-missing ${path}`);
      if (there.node.path === output) return here("archive-update");
      if (isLto(await there.is())) return here(`lto ${path}`);
      members.push(there.node);
    }
    const beside = await request.beside(compiler, trail);
    if (beside === undefined) return here("locale");
    const inputs = new Map<string, TreeEntry>();
    for (const node of [...members, ...beside.nodes]) addEntry(inputs, node.entry);
    for (const entry of [...tool.entries, ...trailEntries(trail), ...outputs.entries])
      addEntry(inputs, entry);
    const libraries = libraryPath === "" ? {} : { LD_LIBRARY_PATH: libraryPath };
    const wanted = parsed.files.map((path, at) => ({
      name: fileName(path),
      sizeBytes: members[at]?.sizeBytes ?? -1,
    }));
    return {
      at: "anywhere",
      kind: request.kind,
      label: request.label,
      spec: {
        argv: [compiler, ...invocation.args],
        env: { TMPDIR: "/tmp", ...libraries, ...beside.env, PATH: pathFor(compiler) },
        cwd: cwd.path,
        outputPaths: outputs.paths,
        inputs: [...inputs.values()],
        platform: { platform: options.platform },
        timeoutMs: options.timeoutMs,
      },
      required: outputs.paths,
      facts: mergeFacts(
        factsOf([...members, ...beside.nodes], trail.asked),
        outputs.facts,
        tool.facts,
      ),
      whyHere: "ar",
      checkHere: () => checkMembers(disk, output, wanted),
    };
  }

  return createRequestPlanner(deps, plan);
}

type Flavour = "gnu" | "llvm";

function flavourOf(help: string): Flavour | undefined {
  if (/^OVERVIEW: LLVM/m.test(help)) return "llvm";
  return help.includes("[D]") && help.includes("BFDNAME") ? "gnu" : undefined;
}

/** Whether the archive will be what it would be if it were made from nothing. */
async function isAsNew(
  disk: Disk,
  path: string,
  { operation, modifiers, files }: ParsedArchive,
  flavour: Flavour,
): Promise<boolean> {
  if (disk.statNow(path) === undefined) return true;
  // Appended to; or it is told on the screen whether the archive was there.
  if (operation === "q" || modifiers.has("v") || !modifiers.has("c")) return false;
  // GNU ar does not compare times where it leaves them out.
  if (modifiers.has("u") && flavour === "llvm") return false;
  const names = files.map(fileName);
  if (new Set(names).size !== names.length) return false;
  const before = await archiveAt(disk, path);
  if (before === undefined || before.thin) return false;
  return sameList(
    before.members.map(({ name }) => name),
    names,
  );
}

/** Somebody else may have changed the archive just before: then it shows here. */
async function checkMembers(
  disk: Disk,
  path: string,
  wanted: readonly { readonly name: string; readonly sizeBytes: number }[],
): Promise<void> {
  const made = await archiveAt(disk, path).catch((cause: unknown) => {
    throw new MeshError("refused", "link-unverified: the archive cannot be read", { cause });
  });
  const lines = (list: typeof wanted): string[] =>
    list.map(({ name, sizeBytes }) => `${name} ${sizeBytes}`);
  if (made === undefined || made.thin || !sameList(lines(made.members), lines(wanted)))
    throw new MeshError("refused", `link-miss: ${path} holds other members than were put in`);
}

async function archiveAt(disk: Disk, path: string): Promise<Archive | undefined> {
  const sizeBytes = disk.statNow(path)?.sizeBytes ?? 0;
  const bytes = sizeBytes <= wholeMaxBytes ? await disk.read(path) : undefined;
  return readArchive(
    async (offset, lengthBytes) =>
      bytes?.subarray(offset, offset + lengthBytes) ?? disk.readRange(path, offset, lengthBytes),
    sizeBytes,
  );
}

function isLto(file: LinkFile): boolean {
  return file.kind === "bitcode" || ("lto" in file && file.lto);
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, at) => text === b[at]);
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
