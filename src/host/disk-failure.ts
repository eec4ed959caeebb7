/** Turns what the file system says into a `MeshError` that names the path. */
import { MeshError } from "../base/errors.ts";

export async function orUndefined<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error))) return undefined;
    throw error;
  }
}

export async function failing<T>(what: string, path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw failure(what, path, error);
  }
}

export function failingNow<T>(what: string, path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw failure(what, path, error);
  }
}

export function failure(what: string, path: string, error: unknown): MeshError {
  const errno = errnoOf(error);
  const full = errno === "ENOSPC" || errno === "EDQUOT";
  const message = `${errno}: cannot ${what} ${quote(path)}`;
  return full
    ? new MeshError("no-space", `${message}: the disk or the quota is full`, { cause: error })
    : new MeshError("io", message, { cause: error });
}

/** EINVAL for what Node refuses before the system does, such as a NUL in a path. */
export function errnoOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^E[A-Z0-9]+$/.test(code) ? code : "EINVAL";
}

export function quote(path: string): string {
  return JSON.stringify(path);
}
