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

/** Set for a moment or a terminal, or meaningless elsewhere: no compile depends on them. */
const neverSent =
  /^(CARGO_MAKEFLAGS|MAKEFLAGS|MFLAGS|NUM_JOBS|TMPDIR|MESH_.*|SSH_.*|DISPLAY|_|OLDPWD|SHLVL)$/;

/** Names and values that commonly are credentials: not for other people's machines. */
const secretName =
  /TOKEN|SECRET|PASS|CREDENTIAL|(?:^|_)KEY(?:_|$)|API_?KEY|_PWD$|(?:^|_)PAT$|PRIVATE|AUTH(?!ORS?(?:_|$))|COOKIE|WEBHOOK|SESSION/i;
const secretValue = /:\/\/[^/\s@]+@/;
/** What Cargo says about a package is public, its authors included. */
const publicName = /^CARGO_(PKG|MANIFEST|CRATE|BIN|PRIMARY)_/;

/** What every compile may see. */
const always =
  /^(CARGO|CARGO_.*|OUT_DIR|RUST_.*|RUSTC_.*|LD_LIBRARY_PATH|LANG|LANGUAGE|LC_.*|SOURCE_DATE_EPOCH|TARGET|HOST|PROFILE)$/;

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

/** What travels. */
export function environmentOf(
  env: Env,
  named: ReadonlySet<string>,
  macros: boolean,
): Record<string, string> {
  const sent: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (neverSent.test(name) || isSecret(name, value)) continue;
    if (macros || always.test(name) || named.has(name)) sent[name] = value;
  }
  return sent;
}

/** What sources say about variables. */
export interface SourceNames {
  /** Given to `env!` or `option_env!`. */
  readonly variables: readonly string[];
  /** Other text in quotes that could be the name of one. */
  readonly others: readonly string[];
}

export interface Sources {
  /** Takes the text of a file while somebody else is reading it. */
  onBytes(node: FileNode, bytes: Uint8Array): void;
  /** Hints, not proofs: `checkEnvironment` finds out afterwards what they miss. */
  namesIn(node: FileNode): SourceNames;
}

const sourceMaxBytes = 1024 * 1024;
const namesMax = 10_000;
const nothing: SourceNames = { variables: [], others: [] };

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
  return variables.size + others.size === 0
    ? nothing
    : { variables: [...variables], others: [...others] };
}
