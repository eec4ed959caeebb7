/** `JOB.json`: which module a job runs, and within which limits. */
import { z } from "zod";
import { MeshError, messageOf } from "../base/errors.ts";

const MiB = 1024 * 1024;

const shape = z.strictObject({
  module: z.string().min(1).describe("path of the WebAssembly module, relative to the manifest"),
  name: z.string().min(1).max(64).optional(),
  memoryMiB: z.int().min(1).max(4096).default(256),
  timeoutMs: z.int().min(1).max(3_600_000).default(30_000),
});

export interface JobManifest {
  readonly module: string;
  readonly name: string | undefined;
  readonly memoryMaxBytes: number;
  /** For each call of split, execute or merge. */
  readonly timeoutMs: number;
}

/** Code "malformed", naming the file, the field and what is wrong with it. */
export function parseManifest(text: string, path: string): JobManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new MeshError("malformed", `${path} is no JSON: ${messageOf(error)}`, { cause: error });
  }
  const parsed = shape.safeParse(value);
  if (!parsed.success) {
    const issues = parsed.error.issues.map(
      ({ path: at, message }) => `${at.length === 0 ? "it" : at.join(".")}: ${message}`,
    );
    throw new MeshError("malformed", `${path} is no job manifest: ${issues.join("; ")}`);
  }
  const { module, name, memoryMiB, timeoutMs } = parsed.data;
  return { module, name, memoryMaxBytes: memoryMiB * MiB, timeoutMs };
}
