/**
 * For tests: an action's inputs, and nothing else, laid out under a fresh root in which its command
 * then runs. It shows whether a plan names everything that a compiler opens.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { ActionSpec } from "../action/action.ts";
import type { Digest } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";

export interface Stage {
  /** Knows where the bytes of every digest are. */
  readonly store: {
    has(digest: Digest): boolean;
    adopt(digest: Digest, path: string): void;
  };
  /** Runs the action in a root of its own and reads what it wrote. */
  run(spec: ActionSpec): Ran;
  close(): void;
}

export interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** By path; outputs that were not written are absent. */
  readonly outputs: ReadonlyMap<string, Buffer>;
}

/** Whether roots can be changed here. */
export const canStage: boolean =
  spawnSync("bwrap", ["--bind", "/", "/", "true"], { stdio: "ignore" }).status === 0;

export function createStage(): Stage {
  const folder = mkdtempSync(join(tmpdir(), "mesh-stage-"));
  const adopted = new Map<Digest, string>();
  mkdirSync(join(folder, "blobs"));
  let runs = 0;

  /** One inode per digest, as in a store: equal files are hard links of each other. */
  function blob(digest: Digest): string {
    const path = join(folder, "blobs", digest);
    const from = adopted.get(digest);
    if (from === undefined) throw new Error(`nobody adopted ${digest}`);
    if (!existsSync(path)) {
      copyFileSync(from, path);
      chmodSync(path, 0o555);
    }
    return path;
  }

  function place(root: string, entry: TreeEntry): void {
    const path = join(root, entry.path);
    mkdirSync(entry.kind === "directory" ? path : dirname(path), { recursive: true });
    if (entry.kind === "file") linkSync(blob(entry.digest), path);
    else if (entry.kind === "symlink") symlinkSync(entry.target, path);
  }

  return {
    store: {
      has: (digest) => adopted.has(digest),
      adopt: (digest, path) => void adopted.set(digest, path),
    },
    run(spec) {
      const root = join(folder, `root-${runs++}`);
      mkdirSync(root, { recursive: true });
      // Links first: a folder that should have been one would hide them.
      const links = spec.inputs.filter(({ kind }) => kind === "symlink");
      for (const entry of links) place(root, entry);
      for (const entry of spec.inputs) if (entry.kind !== "symlink") place(root, entry);
      for (const path of ["/tmp", "/proc", "/dev"])
        mkdirSync(join(root, path), { recursive: true });
      const env = Object.entries(spec.env).flatMap(([name, value]) => ["--setenv", name, value]);
      const walls = ["--unshare-all", "--die-with-parent", "--bind", root, "/"];
      const ran = spawnSync(
        "bwrap",
        [
          ...[...walls, "--proc", "/proc", "--dev", "/dev", "--clearenv", ...env],
          ...["--chdir", spec.cwd, "--", ...spec.argv],
        ],
        { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 },
      );
      const outputs = new Map<string, Buffer>();
      for (const path of spec.outputPaths)
        if (existsSync(join(root, path))) outputs.set(path, readFileSync(join(root, path)));
      rmSync(root, { recursive: true, force: true });
      return { exitCode: ran.status ?? 1, stdout: ran.stdout, stderr: ran.stderr, outputs };
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}
