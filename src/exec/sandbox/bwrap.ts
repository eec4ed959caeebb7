/**
 * Walls by bubblewrap: the first choice.
 *
 * It knows bubblewrap's options and how it reports, nothing about actions or blobs.
 */
import type { Disk } from "../../host/host.ts";
import { innerId, tmpMaxBytes, type Walls } from "./walls.ts";

export interface BwrapOptions {
  /** Absolute path of the program. */
  readonly program: string;
  /** What `bwrap --help` lists beyond the oldest version we run with. */
  readonly can: { readonly limitTmp: boolean; readonly refuseUserNamespaces: boolean };
  /**
   * Device nodes of our own to show in /dev, or undefined for the machine's. A node that runs as
   * root owns the machine's, and what a command may not write to it may still chmod.
   */
  readonly devicesDir: string | undefined;
}

/** What /dev holds. A mount that is read-only blocks devices here, so these are writable mounts. */
export const deviceNames: readonly string[] = ["null", "zero", "full", "random", "urandom"];

export function createBwrap({ disk }: { readonly disk: Disk }, options: BwrapOptions): Walls {
  const { program, can, devicesDir } = options;
  return {
    tier: "bwrap",
    async enclose(room, job) {
      const bind = { writable: "--bind", "read-only": "--ro-bind", "tree-read-only": "--ro-bind" };
      return [
        program,
        ...["--json-status-fd", "3", "--unshare-all", "--unshare-user"],
        ...(can.refuseUserNamespaces ? ["--disable-userns"] : []),
        ...["--uid", String(innerId), "--gid", String(innerId), "--hostname", "mesh"],
        ...["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"],
        ...["--ro-bind", room.rootDir, "/"],
        // Read-only: with root behind `innerId`, files of /proc would obey it as their owner.
        ...["--proc", "/proc", "--remount-ro", "/proc"],
        ...(devicesDir === undefined ? ["--dev", "/dev"] : ownDevices(devicesDir)),
        ...(can.limitTmp && room.memoryTmp ? ["--size", String(tmpMaxBytes)] : []),
        ...(room.memoryTmp ? ["--tmpfs", "/tmp"] : []),
        ...room.mounts.flatMap(({ kind, from, to }) => [bind[kind], from, to]),
        ...Object.entries(job.env).flatMap(([name, value]) => ["--setenv", name, value]),
        // It also sets PWD to this.
        ...["--chdir", job.cwd, "--"],
        ...job.argv,
      ];
    },

    verdict(status, result) {
      // Bubblewrap writes this only if it got as far as to execute the command.
      if (/"exit-code":/.test(status)) return undefined;
      // Killed from outside before it could write: by the memory limit, say.
      if (result.signal !== undefined) return `bwrap was killed by ${result.signal}`;
      return firstLine(result.stderr) || `bwrap ended with ${result.exitCode} and said nothing`;
    },

    async tidyUp() {
      if (devicesDir === undefined) return;
      for (const name of deviceNames) {
        const path = `${devicesDir}/${name}`;
        if (disk.statNow(path)?.mode !== deviceMode) await disk.chmod(path, deviceMode);
      }
    },
  };
}

export const deviceMode: number = 0o666;

function ownDevices(devicesDir: string): readonly string[] {
  return [
    ...["--tmpfs", "/dev", "--dir", "/dev/shm"],
    ...deviceNames.flatMap((name) => ["--dev-bind", `${devicesDir}/${name}`, `/dev/${name}`]),
    ...["--symlink", "/proc/self/fd", "/dev/fd"],
    ...["--symlink", "/proc/self/fd/0", "/dev/stdin"],
    ...["--symlink", "/proc/self/fd/1", "/dev/stdout"],
    ...["--symlink", "/proc/self/fd/2", "/dev/stderr"],
  ];
}

export function firstLine(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes.subarray(0, 4096));
  return text.trimStart().split("\n", 1)[0]?.slice(0, 300) ?? "";
}
