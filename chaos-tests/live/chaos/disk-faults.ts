/** Disks that fill up, and files in stores that change by themselves. */
import { execFileSync } from "node:child_process";
import { chmod, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { SeededRandom } from "../../../src/sim/random.ts";
import { damage, storedFiles } from "../nodes.ts";
import { type Fault, pick } from "./strike.ts";

const damagedMax = 5;
const fillPieceBytes = 1024 * 1024;

export const diskFaults: Readonly<Record<string, Fault>> = {
  async "flip-blobs"(context, random) {
    return await hurtBlobs("flipped a bit in", context, random, damage);
  },
  async "cut-blobs"(context, random) {
    return await hurtBlobs("cut short", context, random, async (path) => {
      const { size } = await stat(path);
      await truncate(path, Math.floor(size * random.fraction()));
    });
  },
  async "hurt-log"(context, random) {
    const picked = pick(context, random, "disk");
    if (picked === undefined) return undefined;
    picked.free();
    const path = join(picked.member.dataDir, "results/log");
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (size === 0) return undefined;
    const { name } = picked.member;
    if (random.chance(0.3)) {
      await truncate(path, Math.floor(size * random.fraction()));
      return { what: `cut the results log of ${name}`, forMs: 0 };
    }
    const file = await open(path, "r+");
    try {
      for (let count = 1 + random.below(8); count > 0; count -= 1) {
        await file.write(random.bytes(1), 0, 1, random.below(size));
      }
    } finally {
      await file.close();
    }
    return { what: `changed bytes in the results log of ${name}`, forMs: 0 };
  },
  async "full-disk"(context, random) {
    const picked = pick(context, random, "disk", ({ disk }) => disk !== undefined);
    if (picked === undefined) return undefined;
    const { member, free } = picked;
    const fill = join(member.disk ?? "", "fill");
    await fillUp(fill);
    return {
      what: member.name,
      forMs: random.between(1_000, 15_000),
      async undo() {
        await rm(fill, { force: true });
        free();
      },
    };
  },
};

async function hurtBlobs(
  how: string,
  context: Parameters<Fault>[0],
  random: SeededRandom,
  hurt: (path: string) => Promise<void>,
): Promise<{ readonly what: string; readonly forMs: number } | undefined> {
  const picked = pick(context, random, "disk");
  if (picked === undefined) return undefined;
  picked.free();
  const files = (await storedFiles(picked.member).catch(() => [])).sort();
  if (files.length === 0) return undefined;
  let done = 0;
  for (let count = 1 + random.below(damagedMax); count > 0; count -= 1) {
    const path = files[random.below(files.length)] ?? "";
    try {
      // A failing disk asks nobody.
      await chmod(path, 0o755);
      await hurt(path);
      done += 1;
    } catch {
      // Evicted or quarantined since it was listed.
    }
  }
  return done === 0
    ? undefined
    : { what: `${how} ${done} blobs of ${picked.member.name}`, forMs: 0 };
}

async function fillUp(path: string): Promise<void> {
  const piece = Buffer.alloc(fillPieceBytes);
  await writeFile(path, "");
  for (let size = fillPieceBytes; size > 0; ) {
    try {
      await writeFile(path, piece.subarray(0, size), { flag: "a" });
    } catch {
      // The last few bytes as well.
      size = size > 512 ? size >> 1 : 0;
    }
  }
}

export interface SmallDisk {
  readonly folder: string;
  unmount(): void;
}

/** A disk of its own, which this machine may not allow: then why. */
export function mountSmallDisk(folder: string, sizeMiB: number): SmallDisk | string {
  try {
    execFileSync("mkdir", ["-p", folder]);
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeMiB}m`, "tmpfs", folder], {
      stdio: "pipe",
    });
  } catch (error) {
    return `cannot mount a small tmpfs here: ${String(error).split("\n")[0]}`;
  }
  return { folder, unmount: () => void execFileSync("umount", ["-l", folder]) };
}
