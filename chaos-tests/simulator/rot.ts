/** Blobs that rot on the disk of a simulated host. */
import { type Digest, hashHexOf } from "../../src/base/digest.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { pick } from "./draws.ts";
import type { SimMesh } from "./mesh.ts";

/** A blob whose file may be spoilt. */
export interface Victim {
  readonly digest: Digest;
  /**
   * Whether tasks read it. A file that rots without a sign, or under a command that reads it, gives
   * a wrong result that nobody can tell from a right one: such a blob is spoilt on an idle host, and
   * so that its times tell.
   */
  readonly isInput: boolean;
}

/** Flips a bit of one blob in a store, as a disk does that grows old. False: there is none. */
export function corruptBlob(
  mesh: SimMesh,
  name: string,
  blobs: readonly Victim[],
  random: SeededRandom,
): boolean {
  const { files } = mesh.simulation.disk(name);
  const pathOf = ({ digest }: Victim): string => {
    const hex = hashHexOf(digest);
    return `/data/blobs/${hex.slice(0, 2)}/${hex.slice(2, 4)}/${hex}`;
  };
  const node = mesh.find(name);
  const isAtWork = node !== undefined && (node.slots.busy > 0 || node.thief.held() > 0);
  const there = blobs.filter(
    (blob) => !(blob.isInput && isAtWork) && files.find(pathOf(blob), false) !== undefined,
  );
  const victim = pick(random, there);
  if (victim === undefined) return false;
  mesh.simulation.faults.corruptFile(name, pathOf(victim), victim.isInput ? "visibly" : "silently");
  return true;
}
