/**
 * Reads an nvcc command line: either one source that is compiled to one object, or why the real
 * nvcc does all of it. What nvcc then calls is not decided here: nvcc itself says so.
 */
import type { Disk } from "../host/host.ts";
import { type NvccReason, type NvccRole, nvccOption } from "./nvcc-options.ts";

export interface ParsedNvcc {
  readonly at: "anywhere";
  readonly source: string;
  readonly dependencies: NvccDependencies | undefined;
  /** The arguments that nvcc is asked about: without those that only say how busy it may be. */
  readonly dryArgs: readonly string[];
  /** Absolute paths of the response files. */
  readonly responseFiles: readonly string[];
}

export interface NvccDependencies {
  readonly systemHeaders: boolean;
  readonly phony: boolean;
  /** Undefined: the object as typed. */
  readonly target: string | undefined;
}

export interface NvccStaysHere {
  readonly at: "here";
  readonly reason: NvccReason;
  readonly culprit: string | undefined;
}

interface Draft {
  compile: boolean;
  language: string | undefined;
  dependencies: "all" | "user" | undefined;
  target: string | undefined;
  phony: boolean;
  forwardUnknown: boolean;
  readonly unknown: string[];
  readonly inputs: string[];
  readonly responseFiles: string[];
}

/** Response files may name response files, this deep. */
const depthMax = 8;
const responseFileMaxBytes = 1024 * 1024;
const argumentsMax = 100_000;

interface Place {
  readonly cwd: string;
  readonly disk: Pick<Disk, "readNow" | "statFollowNow">;
}

/** What `parseNvccArgs` is given: the command line, and what nvcc adds to it by itself. */
export interface NvccCommandLine {
  readonly args: readonly string[];
  readonly cwd: string;
  /** NVCC_PREPEND_FLAGS and NVCC_APPEND_FLAGS matter. */
  readonly env: Readonly<Record<string, string>>;
}

export function parseNvccArgs(
  { args, cwd, env }: NvccCommandLine,
  disk: Place["disk"],
): ParsedNvcc | NvccStaysHere {
  const draft: Draft = {
    compile: false,
    language: undefined,
    dependencies: undefined,
    target: undefined,
    phony: false,
    forwardUnknown: false,
    unknown: [],
    inputs: [],
    responseFiles: [],
  };
  const place = { cwd, disk };
  const dryArgs: string[] = [];
  for (const name of ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"]) {
    const refusal = read(draft, splitNvccWords(env[name] ?? ""), place, 1, []);
    if (refusal !== undefined) return refusal;
  }
  return read(draft, args, place, 0, dryArgs) ?? finish(draft, dryArgs);
}

/** @param depth 0 for the command line itself: only there can an argument be left out. */
function read(
  draft: Draft,
  args: readonly string[],
  place: Place,
  depth: number,
  dryArgs: string[],
): NvccStaysHere | undefined {
  if (args.length > argumentsMax || depth > depthMax) return here("response-file");
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    const words = [arg];
    if (!arg.startsWith("-") || arg === "-") {
      draft.inputs.push(arg);
      dryArgs.push(arg);
      continue;
    }
    const found = nvccOption(arg);
    if (found === undefined) {
      draft.unknown.push(arg);
      dryArgs.push(arg);
      continue;
    }
    const { role, form } = found.row;
    if (isRefusal(role)) return here(reasonOf(role), arg);
    let value = found.value ?? "";
    if (form === "value" && found.value === undefined) {
      const next = args[++i];
      if (next === undefined) return here("bad-arguments", arg);
      words.push(next);
      value = next;
    }
    if (role === "threads") {
      // In a response file it cannot be left out.
      if (depth > 0) return here("host-count", arg);
      continue;
    }
    dryArgs.push(...words);
    const refusal =
      role === "response-file"
        ? readFiles(draft, value, place, depth)
        : take(draft, role, value, arg);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

function isRefusal(role: NvccRole): role is `here:${NvccReason}` {
  return role.startsWith("here:");
}

function reasonOf(role: `here:${NvccReason}`): NvccReason {
  return role.slice("here:".length) as NvccReason;
}

function here(reason: NvccReason, culprit?: string): NvccStaysHere {
  return { at: "here", reason, culprit };
}

function take(draft: Draft, role: NvccRole, value: string, arg: string): NvccStaysHere | undefined {
  switch (role) {
    case "compile":
      draft.compile = true;
      return undefined;
    case "language":
      draft.language = value;
      return undefined;
    case "all-dependencies":
      draft.dependencies = "all";
      return undefined;
    case "user-dependencies":
      draft.dependencies = "user";
      return undefined;
    case "dependency-target":
      draft.target = value;
      return undefined;
    case "dependency-phony":
      draft.phony = true;
      return undefined;
    case "forward-unknown":
      draft.forwardUnknown = true;
      return undefined;
    case "architecture":
      if (/\bnative\b/.test(value)) return here("arch-native", arg);
      return /\blto_/.test(value) ? here("device-lto", arg) : undefined;
    default:
      return undefined;
  }
}

function readFiles(
  draft: Draft,
  names: string,
  place: Place,
  depth: number,
): NvccStaysHere | undefined {
  for (const name of names.split(",")) {
    const path = name.startsWith("/") ? name : `${place.cwd}/${name}`;
    const stat = place.disk.statFollowNow(path);
    if (stat?.kind !== "file" || stat.sizeBytes > responseFileMaxBytes)
      return here("response-file", name);
    draft.responseFiles.push(path);
    const text = new TextDecoder().decode(place.disk.readNow(path));
    if (text.includes("\ufffd")) return here("response-file", name);
    const refusal = read(draft, splitNvccWords(text), place, depth + 1, []);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

function finish(draft: Draft, dryArgs: readonly string[]): ParsedNvcc | NvccStaysHere {
  const [unknown] = draft.unknown;
  if (unknown !== undefined && !draft.forwardUnknown) return here("unknown-flag", unknown);
  const [source, second] = draft.inputs;
  if (!draft.compile) return here("link");
  if (source === undefined) return here("no-source");
  if (second !== undefined) return here("several-sources", second);
  const known = draft.language ?? /\.([^./]+)$/.exec(source)?.[1] ?? "";
  if (!/^(?:cu|c|c\+\+|cc|cpp|cxx)$/.test(known)) return here("source-type", source);
  return {
    at: "anywhere",
    source,
    dependencies:
      draft.dependencies === undefined
        ? undefined
        : {
            systemHeaders: draft.dependencies === "all",
            phony: draft.phony,
            target: draft.target,
          },
    dryArgs,
    responseFiles: draft.responseFiles,
  };
}

/**
 * The words of a response file or a variable, as nvcc splits them: double quotes group, single
 * ones do not, a backslash takes the next character as it is.
 */
export function splitNvccWords(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charAt(i);
    if (c === "\\" && i + 1 < text.length) word = (word ?? "") + text.charAt(++i);
    else if (c === '"') {
      quoted = !quoted;
      word ??= "";
    } else if (!quoted && /\s/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + c;
  }
  if (word !== undefined) words.push(word);
  return words;
}
