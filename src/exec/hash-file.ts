/** The digest of a file of any size, read in pieces so that nobody waits for all of it. */
import { createHasher, type Digest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { Disk } from "../host/host.ts";

const pieceBytes = 1024 * 1024;

/** Code "io" when the file cannot be read or shrinks meanwhile. */
export async function hashFile(disk: Disk, path: string): Promise<Digest> {
  const stat = await disk.stat(path);
  if (stat === undefined) throw new MeshError("io", `ENOENT: ${path} has gone`);
  const hasher = createHasher();
  for (let offset = 0; offset < stat.sizeBytes; offset += pieceBytes) {
    const wantedBytes = Math.min(pieceBytes, stat.sizeBytes - offset);
    const piece = await disk.readRange(path, offset, wantedBytes);
    if (piece.byteLength !== wantedBytes)
      throw new MeshError("io", `EIO: ${path} changed while it was read`);
    hasher.update(piece);
  }
  return hasher.digest();
}
