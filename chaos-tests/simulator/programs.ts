/**
 * The programs of a simulated machine: the tool, and what the real executor starts around it (a
 * shell that sets limits, bubblewrap, `true`, `rm`).
 *
 * Bubblewrap's walls are taken at their word: the tool sees what its mounts show it and may write
 * where they let it, so that a room that is built or mounted wrongly gives no output, or a wrong one.
 */
import { utf8 } from "../../src/base/bytes.ts";
import { isMeshError, messageOf } from "../../src/base/errors.ts";
import type { Disk } from "../../src/host/host.ts";
import type { SimCommand, SimCommands, SimOutcome } from "../../src/sim/processes.ts";
import { orderOf, outputOf, toolBytes, toolPath } from "./tool.ts";

/** What is installed: paths and bytes. All are executable. */
export const installed: readonly (readonly [path: string, bytes: Uint8Array])[] = [
  [toolPath, toolBytes],
  ["/usr/bin/bwrap", utf8("walls")],
  ["/usr/bin/true", utf8("nothing")],
];

/** How long starting any program takes. */
const startMs = 1;

/** What a command sees: paths of its own to paths of the machine. */
interface View {
  /** Undefined where it sees nothing. */
  from(path: string): string | undefined;
  mayWrite(path: string): boolean;
}

const noWalls: View = { from: (path) => path, mayWrite: () => true };

/** `onStart` hears which files of the machine a tool that starts is going to read. */
export function createCommands(
  onStart: (host: string, places: readonly (string | undefined)[]) => void,
): SimCommands {
  return ({ argv }, host) => commandOf(argv, noWalls, (places) => onStart(host, places));
}

type OnStart = (places: readonly (string | undefined)[]) => void;

function commandOf(argv: readonly string[], view: View, onStart: OnStart): SimCommand | undefined {
  const [program = "", ...args] = argv;
  switch (program.split("/").at(-1)) {
    case "sh":
      return shell(args, onStart);
    case "bwrap":
      return walled(args, undefined, onStart);
    case "rm":
      return { durationMs: startMs, finish: (disk) => remove(disk, args.slice(2)) };
    case "true":
      return { durationMs: startMs };
    case "cc":
      return tool(argv, view, onStart);
    default:
      return undefined;
  }
}

/** `limits.ts` wraps every command in `sh -c SCRIPT sh STATUS BLOCKS MEMORY PROCESSES N …`. */
function shell(args: readonly string[], onStart: OnStart): SimCommand {
  const [, , , statusPath, , , , groups] = args;
  if (statusPath === undefined || groups !== "0") {
    // Any other script: this machine makes no device nodes and has no control groups.
    return { durationMs: startMs, finish: async () => ({ exitCode: 1 }) };
  }
  const [program = "", ...rest] = args.slice(8);
  if (program.endsWith("/bwrap")) return walled(rest, statusPath, onStart);
  return commandOf([program, ...rest], noWalls, onStart) ?? absent(program);
}

function absent(program: string): SimCommand {
  const stderr = utf8(`${program}: not found\n`);
  return { durationMs: startMs, finish: async () => ({ exitCode: 127, stderr }) };
}

/** How many values each option takes. */
const optionValues: Readonly<Record<string, number>> = {
  ...Object.fromEntries(
    ["json-status-fd", "uid", "gid", "hostname", "cap-drop", "proc", "remount-ro"].map(
      (name) => [name, 1] as const,
    ),
  ),
  ...Object.fromEntries(["dev", "size", "tmpfs", "chdir", "dir"].map((name) => [name, 1] as const)),
  ...Object.fromEntries(
    ["ro-bind", "bind", "setenv", "dev-bind", "symlink"].map((name) => [name, 2] as const),
  ),
};

/** What bubblewrap is told, and the command behind it. */
function walled(
  args: readonly string[],
  statusPath: string | undefined,
  onStart: OnStart,
): SimCommand {
  if (args[0] === "--help")
    return {
      durationMs: startMs,
      finish: async () => ({ exitCode: 0, stdout: utf8("  --size BYTES\n  --disable-userns\n") }),
    };
  const mounts: Mount[] = [];
  let at = 0;
  for (; args[at] !== "--" && at < args.length; at++) {
    const name = (args[at] ?? "").slice(2);
    const [from = "", to = ""] = args.slice(at + 1);
    if (name === "bind" || name === "ro-bind") mounts.push({ from, to, writable: name === "bind" });
    at += optionValues[name] ?? 0;
  }
  const inner = args.slice(at + 1);
  const view = viewOf(mounts);
  const command = commandOf(inner, view, onStart) ?? absent(inner[0] ?? "");
  return {
    durationMs: startMs + command.durationMs,
    async finish(disk) {
      const program = view.from(inner[0] ?? "");
      const stat = program === undefined ? undefined : disk.statFollowNow(program);
      if (stat?.kind !== "file" || (stat.mode & 0o111) === 0)
        return { exitCode: 1, stderr: utf8(`bwrap: execvp ${inner[0]}: No such file\n`) };
      const outcome = (await command.finish?.(disk)) ?? { exitCode: 0 };
      const status = utf8(`{ "exit-code": ${outcome.exitCode} }\n`);
      if (statusPath !== undefined)
        await disk.writeAtomic(statusPath, status, { mode: 0o600, sync: false });
      return outcome;
    },
  };
}

interface Mount {
  readonly from: string;
  readonly to: string;
  readonly writable: boolean;
}

function viewOf(mounts: readonly Mount[]): View {
  const mountOf = (path: string): Mount | undefined =>
    mounts.findLast(({ to }) => to === "/" || path === to || path.startsWith(`${to}/`));
  return {
    from(path) {
      const mount = mountOf(path);
      return mount && mount.from + (mount.to === "/" ? path : path.slice(mount.to.length));
    },
    mayWrite: (path) => mountOf(path)?.writable === true,
  };
}

function tool(argv: readonly string[], view: View, onStart: OnStart): SimCommand | undefined {
  const order = orderOf(argv);
  if (order === undefined) return undefined;
  const { durationMs, exitCode, outputPath, inputPaths } = order;
  onStart([toolPath, ...inputPaths].map(view.from));
  return {
    durationMs,
    async finish(disk) {
      try {
        const inputs: Uint8Array[] = [];
        for (const path of [toolPath, ...inputPaths]) {
          const place = view.from(path);
          if (place === undefined) return failure(`${path}: No such file`);
          inputs.push(await disk.read(place));
        }
        if (exitCode !== 0) return { ...failure("it does not compile"), exitCode };
        const place = view.from(outputPath);
        if (place === undefined || !view.mayWrite(outputPath))
          return failure(`${outputPath}: Read-only file system`);
        const bytes = outputOf(argv, inputs);
        await disk.writeAtomic(place, bytes, { mode: 0o644, sync: false });
        return { exitCode: 0 };
      } catch (error) {
        // A full disk, say: as every compiler does, it says so and fails.
        if (!isMeshError(error)) throw error;
        return failure(messageOf(error));
      }
    },
  };
}

function failure(message: string): SimOutcome {
  return { exitCode: 1, stderr: utf8(`cc: error: ${message}\n`) };
}

async function remove(disk: Disk, paths: readonly string[]): Promise<SimOutcome> {
  for (const path of paths) await disk.remove(path);
  return { exitCode: 0 };
}
