/**
 * The same unit in another checkout: folders that differ from one checkout to the next give way to
 * placeholders, in the action and in what came of it.
 *
 * A result is portable if its bytes do not tell where it was made. That is looked for, and where a
 * search would prove nothing (compressed metadata, hashes of paths) the sources have to lie
 * elsewhere, in a registry for example. Only two things are rewritten, because rustc writes paths
 * of outputs there and nothing else depends on them: the dependency file, and the messages that
 * announce outputs.
 */
import { dirname } from "node:path";
import type { ActionOutcome, ActionSpec, OutputBlob } from "../action/action.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { type Digest, emptyDigest } from "../base/digest.ts";
import type { BlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Disk } from "../host/host.ts";
import type { Portable } from "./plan.ts";
import type { RustUnit } from "./rustc-args.ts";
import { sourcesIn, variablesIn } from "./rustc-depinfo.ts";

export interface PortableParts {
  readonly unit: RustUnit;
  readonly cwd: string;
  readonly spec: ActionSpec;
  /** Of this checkout; see `findRoots`. */
  readonly roots: readonly Root[];
  /** Variables that macros may have read, with their values. */
  readonly readByMacros: readonly string[] | undefined;
}

/** A folder that is somewhere else in another checkout. */
export interface Root {
  readonly path: string;
  readonly placeholder: string;
}

type Store = Pick<BlobStore, "read" | "put">;

const targetPlaceholder = "/.mesh-target";
const workspacePlaceholder = "/.mesh-workspace";
const placeholderStart = "/.mesh-";

/** A shorter path could stand in any bytes. */
const rootMinLength = 5;
const climbMax = 4;

/** The target folder and the workspace's; inner before outer. */
export function findRoots(disk: Disk, outDir: string, cwd: string): readonly Root[] {
  const isFile = (...parts: readonly string[]): boolean =>
    disk.statFollowNow(parts.join("/"))?.kind === "file";
  let target = outDir;
  let folder = outDir;
  for (let climbed = 0; climbed < climbMax; climbed += 1) {
    if (isFile(folder, "CACHEDIR.TAG")) target = folder;
    folder = dirname(folder);
  }
  const roots: Root[] = [{ path: target, placeholder: targetPlaceholder }];
  const around = dirname(target);
  // What Cargo fetched or was given lies where it is for every checkout.
  const isFetched = isFile(cwd, ".cargo-ok") || isFile(cwd, ".cargo-checksum.json");
  const workspace = isFile(around, "Cargo.toml")
    ? around
    : !isFetched && isFile(cwd, "Cargo.toml")
      ? cwd
      : undefined;
  if (workspace !== undefined) roots.push({ path: workspace, placeholder: workspacePlaceholder });
  roots.sort((a, b) => b.path.length - a.path.length);
  return roots.every(({ path }) => path.length >= rootMinLength) ? roots : [];
}

/** Undefined when the action cannot be told from one with other roots. */
export function createPortable(store: Store, parts: PortableParts): Portable | undefined {
  const { spec, roots } = parts;
  if (roots.length === 0) return undefined;
  let made: ActionSpec | undefined;
  return {
    get spec() {
      made ??= portableSpec(spec, roots);
      return made;
    },
    toPortable: (outcome) => toPortable(store, parts, outcome),
    fromPortable: (outcome) => fromPortable(store, parts, outcome),
  };
}

function portableSpec(spec: ActionSpec, roots: readonly Root[]): ActionSpec {
  const replace = replacer(roots.map(asWritten));
  return {
    ...spec,
    argv: spec.argv.map((arg) => {
      const replaced = replace(arg);
      // The lines of a policy are in order, whatever the folders are called.
      return arg.includes("\n") ? replaced.split("\n").sort().join("\n") : replaced;
    }),
    env: Object.fromEntries(
      Object.entries(spec.env).map(([name, value]) => [name, replace(value)]),
    ),
    cwd: replace(spec.cwd),
    outputPaths: spec.outputPaths.map(replace),
    inputs: spec.inputs.map((entry) => portableEntry(entry, replace)),
  };
}

function portableEntry(entry: TreeEntry, replace: (text: string) => string): TreeEntry {
  const path = replace(entry.path);
  if (entry.kind === "symlink") return { ...entry, path, target: replace(entry.target) };
  return path === entry.path ? entry : { ...entry, path };
}

type Pair = readonly [from: string, to: string];

/** Replaces whole folders only: `/a/ws` in `/a/ws/b`, not in `/a/ws2`. */
function replacer(pairs: readonly Pair[]): (text: string) => string {
  const patterns = pairs.map(([from, to]) => {
    const escaped = from.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    return [from, new RegExp(`${escaped}(?![A-Za-z0-9_.+-])`, "g"), to] as const;
  });
  return (text) => {
    let all = text;
    for (const [from, pattern, to] of patterns)
      if (all.includes(from)) all = all.replaceAll(pattern, () => to);
    return all;
  };
}

async function toPortable(
  store: Store,
  { unit, cwd, roots, readByMacros }: PortableParts,
  outcome: ActionOutcome,
): Promise<ActionOutcome | undefined> {
  const isInside = (text: string): boolean => roots.some(({ path }) => text.includes(path));
  if (readByMacros === undefined || readByMacros.some(isInside)) return undefined;
  const depInfo = outcome.outputs.find(({ path }) => path === unit.depInfo);
  if (depInfo === undefined || outcome.stdout !== emptyDigest) return undefined;
  const rules = textOf(await store.read(depInfo.digest));
  for (const { value } of variablesIn(rules))
    if (value !== undefined && isInside(value)) return undefined;
  const isHome = isInside(cwd) || sourcesIn(rules, cwd).some(isInside);
  const outputs: OutputBlob[] = [];
  const toPlaceholder = replacer(roots.map(asWritten));
  for (const output of outcome.outputs) {
    const path = toPlaceholder(output.path);
    if (output === depInfo) {
      const text = mapRules(rules, roots.map(asWritten), roots.map(escapedForRules));
      if (isInside(text)) return undefined;
      outputs.push({ ...output, path, digest: await store.put(utf8(text)) });
      continue;
    }
    // Metadata names its sources, in dynamic libraries compressed.
    if (isHome && /\.(?:rlib|rmeta|so)$/.test(output.path)) return undefined;
    const bytes = Buffer.from(await store.read(output.digest));
    if (roots.some((root) => bytes.includes(root.path))) return undefined;
    if (bytes.includes(placeholderStart)) return undefined;
    outputs.push({ ...output, path });
  }
  const stderr = await rewritten(store, outcome.stderr, (text) =>
    mapAnnouncements(text, replacer(roots.map(escapedForJson))),
  );
  if (isInside(stderr.text)) return undefined;
  return { ...outcome, outputs, stderr: stderr.digest };
}

async function fromPortable(
  store: Store,
  { roots }: PortableParts,
  outcome: ActionOutcome,
): Promise<ActionOutcome> {
  const toPath = replacer(roots.map(asWritten).map(turned));
  const outputs = await Promise.all(
    outcome.outputs.map(async (output): Promise<OutputBlob> => {
      const path = toPath(output.path);
      if (!path.endsWith(".d")) return { ...output, path };
      const [targets, sources] = [roots.map(asWritten), roots.map(escapedForRules)];
      const { digest } = await rewritten(store, output.digest, (text) =>
        mapRules(text, targets.map(turned), sources.map(turned)),
      );
      return { ...output, path, digest };
    }),
  );
  const stderr = await rewritten(store, outcome.stderr, (text) =>
    mapAnnouncements(text, replacer(roots.map(escapedForJson).map(turned))),
  );
  return { ...outcome, outputs, stderr: stderr.digest };
}

const asWritten = ({ path, placeholder }: Root): Pair => [path, placeholder];
const turned = ([from, to]: Pair): Pair => [to, from];

const escapedForRules = ({ path, placeholder }: Root): Pair => [
  path.replaceAll(" ", "\\ "),
  placeholder,
];

const escapedForJson = ({ path, placeholder }: Root): Pair => [
  JSON.stringify(path).slice(1, -1),
  placeholder,
];

async function rewritten(
  store: Store,
  digest: Digest,
  change: (text: string) => string,
): Promise<{ readonly digest: Digest; readonly text: string }> {
  if (digest === emptyDigest) return { digest, text: "" };
  const before = textOf(await store.read(digest));
  const text = change(before);
  return { digest: text === before ? digest : await store.put(utf8(text)), text };
}

/** In a rule, rustc escapes spaces of sources and none of the target. */
function mapRules(text: string, targets: readonly Pair[], sources: readonly Pair[]): string {
  const change = replacer(sources);
  return text
    .split("\n")
    .map((line) => {
      if (line.startsWith("#")) return line;
      const target = line.endsWith(":")
        ? undefined
        : targets.find(([from]) => line.startsWith(`${from}/`));
      if (target === undefined) return change(line);
      const [from, to] = target;
      return to + change(line.slice(from.length));
    })
    .join("\n");
}

/** Changes the lines that announce outputs, and no diagnostics. */
function mapAnnouncements(text: string, change: (line: string) => string): string {
  return text
    .split("\n")
    .map((line) => (line.startsWith('{"$message_type":"artifact",') ? change(line) : line))
    .join("\n");
}
