/** What every blob store promises, on whatever disk it lies. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type Digest,
  digestOf,
  emptyDigest,
  hashHexOf,
  makeDigest,
  sizeBytesOf,
} from "../base/digest.ts";
import type { Clock, Disk } from "../host/host.ts";
import { type BlobStore, type BlobStoreOptions, createBlobStore } from "./store.ts";

export interface StoreGround {
  readonly disk: Disk;
  readonly clock: Clock;
  /** An empty folder for this test alone. */
  readonly directory: string;
}

const forever = new AbortController().signal;

export function bytesOf(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let state = seed + 1;
  for (let at = 0; at < sizeBytes; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** `withGround` calls its argument with a disk and an empty folder, and cleans up behind it. */
export function storeContract(
  where: string,
  withGround: (run: (ground: StoreGround) => Promise<void>) => Promise<void>,
): void {
  describe(`a blob store on ${where}`, () => {
    let ground: StoreGround;
    let store: BlobStore;
    let data: string;
    let user: string;

    const open = (options: Partial<BlobStoreOptions> = {}): Promise<BlobStore> =>
      createBlobStore(
        ground,
        { directory: data, quotaBytes: 100_000_000, sync: "never", ...options },
        forever,
      );
    const fileOf = (digest: Digest): string => {
      const hex = hashHexOf(digest);
      return join(data, "blobs", hex.slice(0, 2), hex.slice(2, 4), hex);
    };
    const place = (path: string, bytes: Uint8Array): Promise<void> =>
      ground.disk.writeAtomic(path, bytes, { mode: 0o644, sync: false });
    const leftovers = async (): Promise<number> =>
      ((await ground.disk.list(join(data, "tmp"))) ?? []).length;

    /** Runs a test on ground of its own. */
    const inGround =
      <T extends readonly unknown[]>(body: (...values: T) => Promise<void>) =>
      (...values: T): Promise<void> =>
        withGround(async (made) => {
          ground = made;
          data = join(ground.directory, "data");
          user = join(ground.directory, "user");
          await ground.disk.makeDirectory(user);
          store = await open();
          await body(...values);
        });

    test.each([1, 100, 300_000, 3_000_000])(
      "%i bytes come back as they were put",
      inGround(async (size) => {
        const bytes = bytesOf(size, 1);
        const digest = await store.put(bytes);
        expect(digest).toBe(digestOf(bytes));
        expect(store.has(digest)).toBe(true);
        expect(Buffer.compare(await store.read(digest), bytes)).toBe(0);
        expect(await store.readRange(digest, size >> 1, 7)).toEqual(
          bytes.slice(size >> 1, (size >> 1) + 7),
        );
        expect((await ground.disk.stat(fileOf(digest)))?.mode).toBe(0o555);
        expect(store.stats()).toMatchObject({ blobs: 1, bytes: size });
        expect(await leftovers()).toBe(0);
      }),
    );

    test(
      "a blob that nobody put is missing",
      inGround(async () => {
        const absent = digestOf(bytesOf(9, 9));
        expect(store.has(absent)).toBe(false);
        const missing = { code: "blob-missing" };
        await expect(store.read(absent)).rejects.toMatchObject(missing);
        await expect(store.readRange(absent, 0, 1)).rejects.toMatchObject(missing);
        await expect(store.link(absent, join(user, "x"))).rejects.toMatchObject(missing);
        await expect(store.copyTo(absent, join(user, "x"), 0o644)).rejects.toMatchObject(missing);
        const sameHash = makeDigest(hashHexOf(await store.put(bytesOf(5, 1))), 6);
        expect(store.has(sameHash)).toBe(false);
      }),
    );

    test(
      "no bytes at all are always there and take no file",
      inGround(async () => {
        expect(await store.put(new Uint8Array(0))).toBe(emptyDigest);
        expect(store.has(emptyDigest)).toBe(true);
        expect((await store.read(emptyDigest)).byteLength).toBe(0);
        expect((await store.readRange(emptyDigest, 0, 0)).byteLength).toBe(0);
        await store.link(emptyDigest, join(user, "linked"));
        await store.copyTo(emptyDigest, join(user, "copied"), 0o600);
        expect(await ground.disk.stat(join(user, "linked"))).toMatchObject({ sizeBytes: 0 });
        expect(await ground.disk.stat(join(user, "copied"))).toMatchObject({ mode: 0o600 });
        const writer = await store.receive(emptyDigest);
        await writer.commit();
        expect(store.stats()).toMatchObject({ blobs: 0, bytes: 0 });
      }),
    );

    test(
      "the same bytes put many times at once are stored once",
      inGround(async () => {
        const bytes = bytesOf(5000, 3);
        const digests = await Promise.all(Array.from({ length: 20 }, () => store.put(bytes)));
        expect(new Set(digests).size).toBe(1);
        expect(store.stats()).toMatchObject({ blobs: 1, bytes: 5000 });
      }),
    );

    test.each([10, 2_500_000])(
      "a file of %i bytes is copied, not taken",
      inGround(async (size) => {
        const bytes = bytesOf(size, 4);
        const path = join(user, "source");
        await place(path, bytes);
        const digest = await store.putFile(path);
        await place(path, bytesOf(size, 5));
        expect(Buffer.compare(await store.read(digest), bytes)).toBe(0);
        expect(digest).toBe(digestOf(bytes));
        await expect(store.putFile(join(user, "absent"))).rejects.toMatchObject({ code: "io" });
        await expect(store.putFile(user)).rejects.toMatchObject({ code: "io" });
      }),
    );

    test(
      "a blob that arrives in pieces appears when it is whole, and not before",
      inGround(async () => {
        const bytes = bytesOf(700_000, 6);
        const digest = digestOf(bytes);
        const writer = await store.receive(digest);
        await writer.write(bytes.slice(0, 300_000));
        expect(store.has(digest)).toBe(false);
        await writer.write(bytes.slice(300_000));
        expect(await ground.disk.stat(fileOf(digest))).toBeUndefined();
        await writer.commit();
        await writer.discard();
        expect(Buffer.compare(await store.read(digest), bytes)).toBe(0);
        expect(await leftovers()).toBe(0);
      }),
    );

    test.each(["other bytes", "too few bytes", "too many bytes"])(
      "a blob that arrives with %s never appears",
      inGround(async (how) => {
        const bytes = bytesOf(1000, 7);
        const digest = digestOf(bytes);
        const wrong = { "other bytes": 1000, "too few bytes": 999, "too many bytes": 1001 }[how];
        const writer = await store.receive(digest);
        const arriving = async (): Promise<void> => {
          await writer.write(bytesOf(wrong ?? 0, 8));
          await writer.commit();
        };
        await expect(arriving()).rejects.toMatchObject({ code: "blob-corrupt" });
        await writer.discard();
        expect(store.has(digest)).toBe(false);
        expect(await leftovers()).toBe(0);
        expect(store.stats()).toMatchObject({ blobs: 0, bytes: 0 });
      }),
    );

    test(
      "a damaged file is quarantined instead of being served, linked or copied",
      inGround(async () => {
        const uses: ((digest: Digest) => Promise<unknown>)[] = [
          (digest) => store.read(digest),
          (digest) => store.readRange(digest, 0, 10),
          (digest) => store.link(digest, join(user, "a")),
          (digest) => store.copyTo(digest, join(user, "b"), 0o644),
        ];
        for (const [turn, use] of uses.entries()) {
          const bytes = bytesOf(400_000, 10 + turn);
          const digest = await store.put(bytes);
          const flipped = bytes.slice();
          flipped[200_000] = (flipped[200_000] ?? 0) ^ 1;
          await place(fileOf(digest), flipped);
          await expect(use(digest)).rejects.toMatchObject({ code: "blob-corrupt" });
          expect(store.has(digest)).toBe(false);
          expect(store.stats().quarantined).toBe(turn + 1);
          await expect(use(digest)).rejects.toMatchObject({ code: "blob-missing" });
          // What is fetched again takes the damaged one's place.
          await store.put(bytes);
          await use(digest);
        }
        expect((await ground.disk.list(join(data, "quarantine")))?.length).toBe(uses.length);
      }),
    );

    test(
      "a file that somebody removed counts as missing",
      inGround(async () => {
        const digest = await store.put(bytesOf(10, 1));
        await ground.disk.remove(fileOf(digest));
        await expect(store.link(digest, join(user, "a"))).rejects.toMatchObject({
          code: "blob-missing",
        });
        expect(store.has(digest)).toBe(false);
        expect(store.stats()).toMatchObject({ blobs: 0, bytes: 0 });
      }),
    );

    test(
      "a store finds its blobs again, and trusts none that was damaged meanwhile",
      inGround(async () => {
        const good = await store.put(bytesOf(400_000, 1));
        const flipped = await store.put(bytesOf(400_000, 2));
        const torn = await store.put(bytesOf(400_000, 3));
        await place(fileOf(flipped), bytesOf(400_000, 4));
        await place(fileOf(torn), bytesOf(1000, 3));
        await place(join(data, "tmp", "blob-77"), bytesOf(10, 1));
        await place(join(data, "tmp", "somebody-elses"), bytesOf(10, 1));
        store = await open();
        expect((await ground.disk.list(join(data, "tmp")))?.map(({ name }) => name)).toEqual([
          "somebody-elses",
        ]);
        expect(store.has(good)).toBe(true);
        expect(store.has(torn)).toBe(false);
        await store.link(good, join(user, "good"));
        await expect(store.link(flipped, join(user, "flipped"))).rejects.toMatchObject({
          code: "blob-corrupt",
        });
        await store.put(bytesOf(400_000, 3));
        expect(sizeBytesOf(torn)).toBe((await store.read(torn)).byteLength);
        expect(store.stats()).toMatchObject({ blobs: 2, bytes: 800_000 });
      }),
    );

    test(
      "verify finds the damaged blobs and leaves the others",
      inGround(async () => {
        const kept = await store.put(bytesOf(10, 1));
        const damaged = await store.put(bytesOf(10, 2));
        await place(fileOf(damaged), bytesOf(10, 3));
        expect(await store.verify(forever)).toEqual({ checked: 2, corrupt: [damaged] });
        expect([store.has(kept), store.has(damaged)]).toEqual([true, false]);
        expect(await store.verify(forever)).toEqual({ checked: 1, corrupt: [] });
      }),
    );

    test(
      "above the quota the least recently used blobs go first, pinned ones never",
      inGround(async () => {
        store = await open({ quotaBytes: 5000 });
        const blobs = [];
        for (let seed = 0; seed < 5; seed += 1) blobs.push(await store.put(bytesOf(1000, seed)));
        const [pinned, used, second] = blobs as [Digest, Digest, Digest];
        const pin = store.pin([pinned, digestOf(bytesOf(3, 3))]);
        await store.read(used);
        await store.put(bytesOf(1000, 10));
        expect([pinned, used, second].map(store.has)).toEqual([true, true, false]);
        expect(await ground.disk.stat(fileOf(second))).toBeUndefined();
        expect(store.stats()).toMatchObject({ blobs: 5, bytes: 5000, pinned: 2 });
        await expect(store.put(bytesOf(4500, 11))).rejects.toMatchObject({ code: "no-space" });
        expect(store.stats().blobs).toBe(5);
        pin.release();
        pin.release();
        await store.put(bytesOf(4500, 11));
        expect(store.stats()).toMatchObject({ blobs: 1, bytes: 4500, pinned: 0 });
      }),
    );

    test(
      "blobs on their way count against the quota",
      inGround(async () => {
        store = await open({ quotaBytes: 5000 });
        const first = await store.receive(digestOf(bytesOf(3000, 1)));
        await expect(store.receive(digestOf(bytesOf(3000, 2)))).rejects.toMatchObject({
          code: "no-space",
        });
        await first.discard();
        await first.discard();
        await store.put(bytesOf(5000, 3));
      }),
    );

    test(
      "a smaller quota is met by collecting, oldest first also after a restart",
      inGround(async () => {
        const blobs = [];
        for (let seed = 0; seed < 4; seed += 1) {
          blobs.push(await store.put(bytesOf(1000, seed)));
          await ground.clock.sleep(20, forever);
        }
        store = await open({ quotaBytes: 2000 });
        expect(await store.collect(forever)).toBe(2000);
        expect(blobs.map(store.has)).toEqual([false, false, true, true]);
        expect(await store.collect(forever)).toBe(0);
      }),
    );

    test(
      "a linked blob is read-only, shared, and survives its eviction",
      inGround(async () => {
        const bytes = bytesOf(1000, 1);
        const digest = await store.put(bytes);
        const path = join(user, "input");
        await store.link(digest, path);
        const stat = await ground.disk.stat(path);
        expect(stat?.mode).toBe(0o555);
        expect(stat?.inode).toBe((await ground.disk.stat(fileOf(digest)))?.inode);
        await expect(store.link(digest, path)).rejects.toMatchObject({ code: "io" });
        await ground.disk.remove(fileOf(digest));
        expect(await ground.disk.read(path)).toEqual(bytes);
      }),
    );

    test(
      "a copied blob is writable, its own, and replaces what was there",
      inGround(async () => {
        const bytes = bytesOf(2_000_000, 1);
        const digest = await store.put(bytes);
        const path = join(user, "output");
        await place(path, bytesOf(5, 5));
        await store.copyTo(digest, path, 0o640);
        const stat = await ground.disk.stat(path);
        expect(stat?.mode).toBe(0o640);
        expect(stat?.inode).not.toBe((await ground.disk.stat(fileOf(digest)))?.inode);
        expect(Buffer.compare(await ground.disk.read(path), bytes)).toBe(0);
      }),
    );

    describe("with an adopted file", () => {
      const small = bytesOf(1000, 1);
      const large = bytesOf(2_500_000, 2);

      test.each([{ bytes: small }, { bytes: large }])(
        "serves it without copying it",
        inGround(async ({ bytes }) => {
          const path = join(user, "header.h");
          const digest = digestOf(bytes);
          await place(path, bytes);
          store.adopt(digest, path);
          expect(store.has(digest)).toBe(true);
          expect(Buffer.compare(await store.read(digest), bytes)).toBe(0);
          expect(await store.readRange(digest, 5, 10)).toEqual(bytes.slice(5, 15));
          expect(store.stats()).toMatchObject({ blobs: 0, bytes: 0 });
        }),
      );

      test.each([{ bytes: small }, { bytes: large }])(
        "links and copies it as a copy of its own",
        inGround(async ({ bytes }) => {
          const path = join(user, "header.h");
          const digest = digestOf(bytes);
          await place(path, bytes);
          store.adopt(digest, path);
          await store.link(digest, join(user, "linked"));
          await store.copyTo(digest, join(user, "copied"), 0o600);
          const inode = (await ground.disk.stat(path))?.inode;
          for (const [name, mode] of [
            ["linked", 0o555],
            ["copied", 0o600],
          ] as const) {
            const stat = await ground.disk.stat(join(user, name));
            expect(stat?.mode).toBe(mode);
            expect(stat?.inode).not.toBe(inode);
            expect(Buffer.compare(await ground.disk.read(join(user, name)), bytes)).toBe(0);
          }
          expect((await ground.disk.stat(path))?.mode).toBe(0o644);
        }),
      );

      test.each([{ bytes: small }, { bytes: large }])(
        "counts it as missing once it has changed",
        inGround(async ({ bytes }) => {
          const path = join(user, "header.h");
          const digest = digestOf(bytes);
          await place(path, bytes);
          store.adopt(digest, path);
          await ground.clock.sleep(20, forever);
          await place(path, bytes.slice().fill(7));
          expect(store.has(digest)).toBe(false);
          await expect(store.read(digest)).rejects.toMatchObject({ code: "blob-missing" });
        }),
      );

      test.each([{ bytes: small }, { bytes: large }])(
        "never lets other bytes out",
        inGround(async ({ bytes }) => {
          const path = join(user, "header.h");
          const digest = digestOf(bytes);
          // Looks right from the start, so only hashing can tell.
          await place(path, bytes.slice().fill(7));
          const uses: (() => Promise<unknown>)[] = [
            () => store.read(digest),
            () => store.readRange(digest, 0, 5),
            () => store.link(digest, join(user, "a")),
            () => store.copyTo(digest, join(user, "a"), 0o644),
          ];
          for (const use of uses) {
            store.adopt(digest, path);
            expect(store.has(digest)).toBe(true);
            await expect(use()).rejects.toMatchObject({ code: "blob-missing" });
            expect(store.has(digest)).toBe(false);
          }
          expect((await ground.disk.list(user))?.map(({ name }) => name)).toEqual(["header.h"]);
        }),
      );

      test(
        "does not adopt what is no file or has another size",
        inGround(async () => {
          store.adopt(digestOf(small), user);
          store.adopt(digestOf(small), join(user, "absent"));
          await place(join(user, "short"), small.slice(1));
          store.adopt(digestOf(small), join(user, "short"));
          expect(store.has(digestOf(small))).toBe(false);
        }),
      );
    });
  });
}
