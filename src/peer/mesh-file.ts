/**
 * `mesh.json` in the data directory: which mesh this node belongs to, and whom it met there.
 *
 * Reads and writes the file; what to remember is decided in membership.ts. The file holds the mesh
 * key, so it is readable by its user alone.
 */
import { posix } from "node:path";
import { z } from "zod";
import { textOf, utf8 } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Disk } from "../host/host.ts";
import { addrMaxChars, addrsMaxPerPeer, isAddr, isPeerId } from "./address.ts";

export interface MeshFile {
  readonly meshKey: Uint8Array;
  readonly name: string;
  readonly roles: readonly string[];
  /** Most recently seen first. */
  readonly peers: readonly RememberedPeer[];
}

export interface RememberedPeer {
  readonly peer: PeerId;
  readonly addrs: readonly string[];
  readonly lastSeenWallMs: number;
}

export const rememberedMax: number = 256;
export const nodeNameMaxChars: number = 64;
const fileMaxBytes = 2 * 1024 * 1024;

const shape = z.strictObject({
  version: z.literal(1),
  meshKey: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string().min(1).max(nodeNameMaxChars),
  roles: z.array(z.string().max(32)).max(8),
  peers: z
    .array(
      z.strictObject({
        peer: z.custom<PeerId>((value) => typeof value === "string" && isPeerId(value)),
        addrs: z.array(z.string().max(addrMaxChars).refine(isAddr)).max(addrsMaxPerPeer),
        lastSeenWallMs: z.number().min(0),
      }),
    )
    .max(rememberedMax),
});

export function meshFilePath(dataDir: string): string {
  return posix.join(dataDir, "mesh.json");
}

/**
 * Undefined when there is no such file. A file that cannot be understood is never replaced:
 * it may hold the only copy of the mesh key. @throws MeshError "malformed", "io"
 */
export async function readMeshFile(disk: Disk, path: string): Promise<MeshFile | undefined> {
  const stat = await disk.stat(path);
  if (stat === undefined) return undefined;
  if (stat.sizeBytes > fileMaxBytes) throw unreadable(path, `it has ${stat.sizeBytes} bytes`);
  return parseMeshFile(path, textOf(await disk.read(path)));
}

function parseMeshFile(path: string, text: string): MeshFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw unreadable(path, "it is no JSON", error);
  }
  const parsed = shape.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
    throw unreadable(path, `${where}${issue?.message ?? "unexpected content"}`, parsed.error);
  }
  const { meshKey, name, roles, peers } = parsed.data;
  return { meshKey: Uint8Array.from(Buffer.from(meshKey, "hex")), name, roles, peers };
}

export async function writeMeshFile(disk: Disk, path: string, file: MeshFile): Promise<void> {
  const json = {
    version: 1,
    meshKey: Buffer.from(file.meshKey).toString("hex"),
    name: file.name,
    roles: file.roles,
    peers: file.peers,
  };
  const bytes = utf8(`${JSON.stringify(json, null, 2)}\n`);
  await disk.writeAtomic(path, bytes, { mode: 0o600, sync: true });
}

function unreadable(path: string, why: string, cause?: unknown): MeshError {
  return new MeshError(
    "malformed",
    `${path} is damaged (${why}): restore it from a copy, or move it away and join again with an invite`,
    { cause },
  );
}
