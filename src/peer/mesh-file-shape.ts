/** What `mesh.json` must look like; on its own, because only a node with a mesh loads it. */
import { z } from "zod";
import type { PeerId } from "../base/ids.ts";
import { addrMaxChars, addrsMaxPerPeer, isAddr, isPeerId } from "./address.ts";
import type { RememberedPeer } from "./mesh-file.ts";

export interface MeshFileJson {
  readonly version: 1;
  /** 64 hex characters. */
  readonly meshKey: string;
  readonly name: string;
  readonly roles: readonly string[];
  readonly peers: readonly RememberedPeer[];
}

export interface MeshFileLimits {
  readonly nodeNameMaxChars: number;
  readonly rememberedMax: number;
}

export function meshFileShape({
  nodeNameMaxChars,
  rememberedMax,
}: MeshFileLimits): z.ZodType<MeshFileJson> {
  return z.strictObject({
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
}
