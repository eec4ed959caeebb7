/** What a failed command tells its user: one line, and an exit code that scripts can rely on. */
import { isMeshError, messageOf } from "../base/errors.ts";

/** Exit codes of `mesh` itself; build and exec pass on those of the native tool. */
export const exitFailed: number = 1;
export const exitUsage: number = 2;
export const exitNoMesh: number = 3;

export function exitCodeFor(error: unknown): number {
  if (isMeshError(error, "usage")) return exitUsage;
  if (isMeshError(error, "no-mesh")) return exitNoMesh;
  return exitFailed;
}

/** What happened, in one line; for what can only be a bug of ours, with the place of it. */
export function complaint(error: unknown): string {
  if (isMeshError(error) || isSystemError(error)) return `mesh: ${oneLine(messageOf(error))}`;
  const stack = error instanceof Error ? error.stack : undefined;
  return `mesh: this is a bug in mesh-node, please report it: ${stack ?? messageOf(error)}`;
}

export function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, " ");
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && "errno" in error;
}
