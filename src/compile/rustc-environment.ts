/**
 * Environment variables of Rust units: which travel, and which names the sources mention.
 *
 * A unit that runs no macros reads a variable only through `env!` and `option_env!`, and the
 * compiler says afterwards which ones. So what is not known beforehand costs a run, not a wrong
 * answer. A macro may read what it likes and tell nobody: it sees all there is, but for what is
 * listed here.
 */
import { textOf } from "../base/bytes.ts";
import type { FileNode } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";

type Env = Readonly<Record<string, string>>;

/**
 * Set for a moment or a terminal, or about this node: no compile depends on them. A star stands for
 * any ending.
 */
export const unsteadyNames: readonly string[] = [
  ...["CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS", "NUM_JOBS", "TMPDIR", "MESH_*", "SSH_*"],
  ...["DISPLAY", "_", "OLDPWD", "SHLVL", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"],
];
const neverSent = new RegExp(
  `^(?:${unsteadyNames.map((name) => name.replace(/\*$/, ".*")).join("|")})$`,
);

export const isUnsteady = (name: string): boolean => neverSent.test(name);

/** Names and values that commonly are credentials: not for other people's machines. */
const secretName =
  /TOKEN|SECRET|PASS|CREDENTIAL|(?:^|_)KEY(?:_|$)|API_?KEY|_PWD$|(?:^|_)PAT$|PRIVATE|AUTH(?!ORS?(?:_|$))|COOKIE|WEBHOOK|SESSION/i;
const secretValue = /:\/\/[^/\s@]+@/;
/** What Cargo says about a package is public, its authors included. */
const publicName = /^CARGO_(PKG|MANIFEST|CRATE|BIN|PRIMARY)_/;

/**
 * What the compiler itself may read, and what Cargo says about a package: the sources ask for that
 * through macros of other crates too.
 */
const always =
  /^(?:CARGO_(?:PKG|MANIFEST|CRATE|BIN)_.*|OUT_DIR|RUST_.*|RUSTC_.*|LLVM_.*|LD_LIBRARY_PATH|SOURCE_DATE_EPOCH|CI)$/;

/** What linkers and the drivers in front of them read, their language included. */
const ofLinkers =
  /^(?:LIBRARY_PATH|COMPILER_PATH|GCC_EXEC_PREFIX|LD_RUN_PATH|LDEMULATION|GNUTARGET|LANG|LANGUAGE|LC_.*)$/;

/** They make the loader put other code into the compiler. */
const forbidden: readonly string[] = ["LD_PRELOAD", "LD_AUDIT"];

/** The variable that keeps a unit here, if there is one. */
export function forbiddenIn(env: Env): string | undefined {
  return forbidden.find((name) => env[name] !== undefined && env[name] !== "");
}

export function isSecret(name: string, value: string): boolean {
  return !publicName.test(name) && (secretName.test(name) || secretValue.test(value));
}

/** Variables that stay here although somebody may want them. */
export function secretsIn(env: Env): readonly string[] {
  return Object.entries(env).flatMap(([name, value]) => (isSecret(name, value) ? name : []));
}

export interface Wanted {
  /** Named in the sources, or by a macro that the unit uses. */
  readonly named: ReadonlySet<string>;
  /** Asked for by an earlier run, whatever they are. */
  readonly learned: ReadonlySet<string>;
  readonly links: boolean;
}

/** What is part of the action. A secret never is: where one is wanted, there is no action. */
export function environmentOf(env: Env, { named, learned, links }: Wanted): Record<string, string> {
  const sent: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (isSecret(name, value)) continue;
    const usual = always.test(name) || named.has(name) || (links && ofLinkers.test(name));
    if (learned.has(name) || (usual && !isUnsteady(name))) sent[name] = value;
  }
  return sent;
}

/** What sources say about variables. */
export interface SourceNames {
  /** Given to `env!` or `option_env!`. */
  readonly variables: readonly string[];
  /** Other text in quotes that could be the name of one. */
  readonly others: readonly string[];
  /** Files that are named by a path, relative to the source's own folder. */
  readonly files: readonly string[];
}

export interface Sources {
  /** Takes the text of a file while somebody else is reading it. */
  onBytes(node: FileNode, bytes: Uint8Array): void;
  /** Hints, not proofs: `checkEnvironment` finds out afterwards what they miss. */
  namesIn(node: FileNode): SourceNames;
}

const sourceMaxBytes = 1024 * 1024;
const namesMax = 10_000;
const nothing: SourceNames = { variables: [], others: [], files: [] };

export function createSources(disk: Disk): Sources {
  const known = new WeakMap<FileNode, SourceNames>();
  function learn(node: FileNode, bytes: Uint8Array): SourceNames {
    const names = read(textOf(bytes));
    known.set(node, names);
    return names;
  }
  return {
    onBytes: (node, bytes) => void learn(node, bytes),
    namesIn(node) {
      if (node.sizeBytes > sourceMaxBytes) return nothing;
      return known.get(node) ?? learn(node, disk.readNow(node.path));
    },
  };
}

/** Only what may lie outside the package, which is an input anyway. */
const included =
  /\b(?:include(?:_str|_bytes)?!\s*[({[]|path\s*=)\s*"((?:\/|\.\.?\/)[^"\\\n]{1,1000})"/g;

function read(text: string): SourceNames {
  const variables = new Set<string>();
  const others = new Set<string>();
  const quoted = /(\b(?:option_)?env!\s*[({[]\s*)?"([A-Za-z_][A-Za-z0-9_]*)"/g;
  for (const [, macro, name] of text.matchAll(quoted)) {
    if (name === undefined) continue;
    if (macro !== undefined) variables.add(name);
    else if (/^[A-Z][A-Z0-9_]+$/.test(name)) others.add(name);
    if (variables.size + others.size >= namesMax) break;
  }
  const files = new Set<string>();
  for (const [, name] of text.matchAll(included)) {
    if (name !== undefined) files.add(name);
    if (files.size >= namesMax) break;
  }
  return variables.size + others.size + files.size === 0
    ? nothing
    : { variables: [...variables], others: [...others], files: [...files] };
}
