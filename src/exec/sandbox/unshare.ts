/**
 * Walls by util-linux (`unshare`, `mount`) and `sh`: for machines without bubblewrap.
 *
 * Two user namespaces, one in the other. In the outer one a script mounts everything on top of
 * the room's root. The command runs in the inner one: chrooted, without any capability, and not
 * able to change mounts, because those belong to the outer namespace. A chrooted process may not
 * make user namespaces either, which is what an escape would start with.
 */

import { utf8 } from "../../base/bytes.ts";
import { MeshError } from "../../base/errors.ts";
import type { Disk, RunResult } from "../../host/host.ts";
import { firstLine } from "./bwrap.ts";
import { innerId, type Room, tmpMaxBytes, type Walls } from "./walls.ts";

export interface UnshareOptions {
  /** Absolute path of the program; `sh`, `mount` and `env` are found by PATH. */
  readonly program: string;
}

const devices = ["null", "zero", "full", "random", "urandom"] as const;

/** $1 fstab, then the variables, the inner `unshare` and the command. */
const script = `
mount -n -a -T "$1" || exit 1
shift
echo mounted >&3
env -i "$@" 3>&-
code=$?
echo "exit-code $code" >&3
exit $code
`;

export function createUnshare({ disk }: { readonly disk: Disk }, options: UnshareOptions): Walls {
  const { program } = options;
  return {
    tier: "unshare",
    async enclose(room, job) {
      refuseLoaderVariables(job.env);
      const fstab = `${room.controlDir}/fstab`;
      // Not the root itself: what is mounted on it would hide what is still to be mounted from it.
      const view = `${room.controlDir}/view`;
      await disk.makeDirectory(view);
      await disk.append(fstab, utf8(fstabOf(room, view)));
      const id = String(innerId);
      return [
        program,
        ...["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts"],
        ...["--cgroup", "--fork", "--kill-child", "--"],
        ...["sh", "-c", script, "sh", fstab],
        ...Object.entries({ ...job.env, PWD: job.cwd }).map(([name, value]) => `${name}=${value}`),
        ...[program, "--user", `--map-user=${id}`, `--map-group=${id}`],
        ...[`--root=${view}`, `--wd=${job.cwd}`, "--"],
        ...job.argv,
      ];
    },

    verdict(status, result) {
      if (!status.includes("mounted"))
        return firstLine(result.stderr) || `unshare ended with ${result.exitCode}`;
      return innerFailure(result);
    },

    async tidyUp() {},
  };
}

/**
 * The last step before the command is `unshare` itself, and it has only its message to say that
 * it failed. A command that imitates the message gets its action tried elsewhere, no more.
 */
function innerFailure(result: RunResult): string | undefined {
  if (![1, 126, 127].includes(result.exitCode)) return undefined;
  const line = firstLine(result.stderr);
  return /^(unshare|env): /.test(line) ? line : undefined;
}

/**
 * These would act on the tools that still have to start the command, in the sight of this
 * machine's files: an input named by LD_PRELOAD would run outside.
 */
function refuseLoaderVariables(env: Readonly<Record<string, string>>): void {
  const bad = Object.keys(env).find((name) => loaderVariable.test(name));
  if (bad !== undefined)
    throw new MeshError(
      "unsupported",
      `this node's sandbox (unshare) cannot pass ${bad} to a command: bubblewrap can`,
    );
}

const loaderVariable =
  /^(LD_.*|GLIBC_.*|MALLOC_.*|MUSL_.*|GCONV_PATH|LOCPATH|NLSPATH|LANGUAGE|GETCONF_DIR|TZDIR|LIBMOUNT_.*)$/;

function fstabOf({ rootDir, mounts, memoryTmp }: Room, view: string): string {
  const at = (path: string): string => `${view}${path}`;
  const options = {
    writable: "bind,nosuid,nodev",
    "read-only": "bind,ro,nosuid,nodev",
    "tree-read-only": "rbind,ro,nosuid,nodev",
  };
  const lines: [from: string, to: string, type: string, options: string][] = [
    [rootDir, view, "none", options["read-only"]],
    ["proc", at("/proc"), "proc", "ro,nosuid,nodev,noexec"],
    ["tmpfs", at("/dev/shm"), "tmpfs", "nosuid,nodev,mode=1777,size=64m"],
    // Read-only, so that nobody can chmod them; reading and writing a device is no file change.
    ...devices.map((name): [string, string, string, string] => [
      `/dev/${name}`,
      at(`/dev/${name}`),
      "none",
      "bind,ro,nosuid",
    ]),
    ...mounts.map(({ kind, from, to }): [string, string, string, string] => [
      from,
      at(to),
      "none",
      options[kind],
    ]),
  ];
  if (memoryTmp)
    lines.push(["tmpfs", at("/tmp"), "tmpfs", `nosuid,nodev,mode=1777,size=${tmpMaxBytes}`]);
  return lines.map((fields) => `${fields.map(escapeField).join(" ")} 0 0\n`).join("");
}

/** The escapes of fstab(5), for what would end or split a field. */
function escapeField(field: string): string {
  return field.replace(
    /[ \t\n\r\\#]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`,
  );
}
