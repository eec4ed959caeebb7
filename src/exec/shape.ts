/**
 * What an action may look like at all. Actions come from other nodes: whatever builds folders,
 * command lines and mounts from one relies on these rules, so they are checked here once more,
 * whoever made the action.
 */
import type { ActionSpec } from "../action/action.ts";
import { MeshError } from "../base/errors.ts";

export const shapeLimits: {
  readonly outputsMax: number;
  readonly inputsMax: number;
  readonly argsMax: number;
  readonly commandMaxBytes: number;
  readonly argMaxBytes: number;
  readonly pathMaxBytes: number;
  readonly nameMaxBytes: number;
} = {
  outputsMax: 4096,
  inputsMax: 200_000,
  argsMax: 65_536,
  /** Arguments and environment together; the kernel takes 2 MiB, and the sandbox adds its own. */
  commandMaxBytes: 1024 * 1024,
  /** The kernel's bound on one argument is 128 KiB. */
  argMaxBytes: 128 * 1024 - 256,
  /** Less than the kernel's 4,096: the root lies below a folder of this node. */
  pathMaxBytes: 3072,
  nameMaxBytes: 255,
};

/** @throws MeshError "malformed", or "limit" for what is merely too much. */
export function checkShape(spec: ActionSpec): void {
  checkCommand(spec);
  if (!(Number.isFinite(spec.timeoutMs) && spec.timeoutMs > 0))
    throw malformed(`a time limit of ${spec.timeoutMs} ms makes no sense`);
  checkPath("the working folder", spec.cwd);
  bound("outputs", spec.outputPaths.length, shapeLimits.outputsMax);
  for (const path of spec.outputPaths) {
    checkPath("an output", path);
    if (path === "/") throw malformed("/ cannot be an output");
  }
  if (new Set(spec.outputPaths).size !== spec.outputPaths.length)
    throw malformed("two outputs have the same path");
  bound("inputs", spec.inputs.length, shapeLimits.inputsMax);
  for (const entry of spec.inputs) {
    checkPath("an input", entry.path);
    if (entry.kind === "symlink") checkTarget(entry.path, entry.target);
  }
}

function checkCommand({ argv, env }: ActionSpec): void {
  const [program] = argv;
  if (program === undefined) throw malformed("there is no command");
  checkPath("the program", program);
  bound("arguments", argv.length, shapeLimits.argsMax);
  let sizeBytes = 0;
  const add = (text: string): void => {
    if (text.includes("\0")) throw malformed("the command contains a NUL");
    const bytes = Buffer.byteLength(text) + 1;
    bound("bytes in one argument", bytes, shapeLimits.argMaxBytes);
    sizeBytes += bytes;
  };
  for (const arg of argv) add(arg);
  for (const [name, value] of Object.entries(env)) {
    // A leading dash would be an option of env(1).
    if (name === "" || name.startsWith("-") || name.includes("="))
      throw malformed(`${JSON.stringify(name)} is no name for an environment variable`);
    add(`${name}=${value}`);
  }
  bound("bytes in the command", sizeBytes, shapeLimits.commandMaxBytes);
}

function checkPath(what: string, path: string): void {
  if (!path.startsWith("/")) throw malformed(`${what} is not an absolute path: ${shown(path)}`);
  if (path.includes("\0")) throw malformed(`${what} contains a NUL: ${shown(path)}`);
  if (Buffer.byteLength(path) > shapeLimits.pathMaxBytes)
    throw malformed(`the path of ${what} is too long: ${shown(path)}`);
  if (path === "/") return;
  for (const name of path.slice(1).split("/")) {
    if (name === "" || name === "." || name === "..")
      throw malformed(`the path of ${what} is not normal: ${shown(path)}`);
    if (name.length > 63 && Buffer.byteLength(name) > shapeLimits.nameMaxBytes)
      throw malformed(`a name in the path of ${what} is too long: ${shown(path)}`);
  }
}

function checkTarget(path: string, target: string): void {
  if (target === "" || target.includes("\0") || Buffer.byteLength(target) > 4095)
    throw malformed(`the symlink ${shown(path)} has an impossible target`);
}

function bound(what: string, count: number, max: number): void {
  if (count > max) throw new MeshError("limit", `${count} ${what}: at most ${max} are possible`);
}

function shown(path: string): string {
  return JSON.stringify(path.length > 200 ? `${path.slice(0, 200)}…` : path);
}

function malformed(message: string): MeshError {
  return new MeshError("malformed", message);
}
