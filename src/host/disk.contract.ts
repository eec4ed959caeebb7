/** What every Disk promises, real or simulated. */
import { expect, test } from "vitest";
import { textOf, utf8 } from "../base/bytes.ts";
import type { Disk } from "./host.ts";

/** Runs `body` with a disk and the path of an empty folder on it. */
export type WithDisk = (body: (disk: Disk, root: string) => Promise<void>) => Promise<void>;

export function diskContract(withDisk: WithDisk): void {
  contentContract(withDisk);
  namingContract(withDisk);
  linkContract(withDisk);
  writerContract(withDisk);
  failureContract(withDisk);
}

const plain = { mode: 0o644, sync: false };

function contentContract(withDisk: WithDisk): void {
  test("a file holds what was last written, in every size", () =>
    withDisk(async (disk, root) => {
      for (const sizeBytes of [0, 1, 65_536, 300_000]) {
        const bytes = new Uint8Array(sizeBytes).map((_, index) => index * 7);
        await disk.writeAtomic(`${root}/f`, bytes, { mode: 0o640, sync: sizeBytes === 1 });
        expect(await disk.read(`${root}/f`)).toEqual(bytes);
        expect(disk.readNow(`${root}/f`)).toEqual(bytes);
        expect(await disk.stat(`${root}/f`)).toMatchObject({
          kind: "file",
          sizeBytes,
          mode: 0o640,
        });
      }
      expect(await names(disk, root)).toEqual(["f"]);
    }));

  test("what was read stays the reader's: later writes do not show in it", () =>
    withDisk(async (disk, root) => {
      const written = utf8("one");
      await disk.writeAtomic(`${root}/f`, written, plain);
      written[0] = 0;
      const seen = await disk.read(`${root}/f`);
      seen[1] = 0;
      expect(textOf(await disk.read(`${root}/f`))).toBe("one");
    }));

  test("a range is cut at the end of the file", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/f`, utf8("0123456789"), plain);
      const range = async (offset: number, lengthBytes: number) =>
        textOf(await disk.readRange(`${root}/f`, offset, lengthBytes));
      expect(await range(2, 3)).toBe("234");
      expect(await range(8, 100)).toBe("89");
      expect(await range(50, 5)).toBe("");
      expect(await range(0, 0)).toBe("");
    }));

  test("append adds at the end and makes the file", () =>
    withDisk(async (disk, root) => {
      await disk.append(`${root}/log`, utf8("a\n"));
      await disk.append(`${root}/log`, utf8("b\n"));
      expect(textOf(await disk.read(`${root}/log`))).toBe("a\nb\n");
    }));

  test("a copy has its own contents and the mode asked for", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/a`, utf8("first"), plain);
      await disk.copy(`${root}/a`, `${root}/b`, 0o755);
      await disk.append(`${root}/a`, utf8(" and more"));
      expect(textOf(await disk.read(`${root}/b`))).toBe("first");
      expect((await disk.stat(`${root}/b`))?.mode).toBe(0o755);
    }));

  test("a new version changes the inode and never the time back", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/f`, utf8("1"), plain);
      const first = disk.statNow(`${root}/f`);
      await disk.writeAtomic(`${root}/f`, utf8("2"), plain);
      const second = disk.statNow(`${root}/f`);
      expect(second?.inode).not.toBe(first?.inode);
      expect((second?.mtimeNs ?? 0n) >= (first?.mtimeNs ?? 0n)).toBe(true);
      expect(typeof second?.ctimeNs).toBe("bigint");
    }));
}

function namingContract(withDisk: WithDisk): void {
  test("what is not there is undefined, also below a file", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/f`, utf8("x"), plain);
      for (const path of [`${root}/no`, `${root}/no/deeper`, `${root}/f/below`]) {
        expect(await disk.stat(path)).toBeUndefined();
        expect(disk.statNow(path)).toBeUndefined();
        expect(disk.statFollowNow(path)).toBeUndefined();
        expect(await disk.list(path)).toBeUndefined();
        expect(await disk.realPath(path)).toBeUndefined();
        await disk.remove(`${root}/no`);
      }
      expect(await disk.list(`${root}/f`)).toBeUndefined();
    }));

  test("a folder lists its entries sorted by code unit, with their kinds", () =>
    withDisk(async (disk, root) => {
      await disk.makeDirectory(`${root}/d/b`);
      await disk.makeDirectory(`${root}/d/b`);
      await disk.writeAtomic(`${root}/d/a`, utf8(""), plain);
      await disk.writeAtomic(`${root}/d/Z`, utf8(""), plain);
      await disk.symlink("a", `${root}/d/é`);
      expect(await disk.list(`${root}/d`)).toEqual([
        { name: "Z", kind: "file" },
        { name: "a", kind: "file" },
        { name: "b", kind: "directory" },
        { name: "é", kind: "symlink" },
      ]);
      expect((await disk.stat(`${root}/d`))?.kind).toBe("directory");
    }));

  test("remove takes a whole folder and leaves what its links point to", () =>
    withDisk(async (disk, root) => {
      await disk.makeDirectory(`${root}/d/e/f`);
      await disk.writeAtomic(`${root}/kept`, utf8("kept"), plain);
      await disk.symlink(`${root}/kept`, `${root}/d/e/link`);
      await disk.link(`${root}/kept`, `${root}/d/e/hard`);
      await disk.remove(`${root}/d`);
      expect(await disk.stat(`${root}/d`)).toBeUndefined();
      expect(textOf(await disk.read(`${root}/kept`))).toBe("kept");
    }));

  test("rename moves over a file, and moves whole folders", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/a`, utf8("a"), plain);
      await disk.writeAtomic(`${root}/b`, utf8("b"), plain);
      await disk.rename(`${root}/a`, `${root}/b`);
      await disk.makeDirectory(`${root}/d`);
      await disk.rename(`${root}/b`, `${root}/d/b`);
      await disk.rename(`${root}/d`, `${root}/e`);
      expect(textOf(await disk.read(`${root}/e/b`))).toBe("a");
      expect(await names(disk, root)).toEqual(["e"]);
    }));

  test("chmod and touch change the mode and the time of use", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/f`, utf8("x"), plain);
      const before = await disk.stat(`${root}/f`);
      await disk.chmod(`${root}/f`, 0o444);
      await disk.touch(`${root}/f`);
      const after = await disk.stat(`${root}/f`);
      expect(after?.mode).toBe(0o444);
      // The system stamps writes with a clock that ticks every few ms, touch with a finer one.
      expect((after?.mtimeNs ?? 0n) + 20_000_000n > (before?.mtimeNs ?? 1n)).toBe(true);
    }));

  test("free space is a positive number of bytes", () =>
    withDisk(async (disk, root) => {
      expect(await disk.freeBytes(root)).toBeGreaterThan(0);
    }));
}

function linkContract(withDisk: WithDisk): void {
  test("hard links share one inode and its contents", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/a`, utf8("x"), plain);
      await disk.link(`${root}/a`, `${root}/b`);
      expect(disk.statNow(`${root}/b`)?.inode).toBe(disk.statNow(`${root}/a`)?.inode);
      await disk.append(`${root}/b`, utf8("y"));
      expect(textOf(await disk.read(`${root}/a`))).toBe("xy");
    }));

  test("writing or copying over one of two hard links leaves the other as it was", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/store`, utf8("kept"), plain);
      await disk.writeAtomic(`${root}/new`, utf8("new"), plain);
      await disk.link(`${root}/store`, `${root}/one`);
      await disk.link(`${root}/store`, `${root}/two`);
      await disk.writeAtomic(`${root}/one`, utf8("new"), plain);
      await disk.copy(`${root}/new`, `${root}/two`, 0o644);
      expect(textOf(await disk.read(`${root}/store`))).toBe("kept");
      expect(textOf(await disk.read(`${root}/two`))).toBe("new");
    }));

  test("symlinks are seen as such, and followed where that is asked for", () =>
    withDisk(async (disk, root) => {
      await disk.makeDirectory(`${root}/d`);
      await disk.writeAtomic(`${root}/d/f`, utf8("deep"), plain);
      await disk.symlink("d", `${root}/short`);
      await disk.symlink("../d/f", `${root}/d/self`);
      expect((await disk.stat(`${root}/short`))?.kind).toBe("symlink");
      expect(disk.statNow(`${root}/short`)?.kind).toBe("symlink");
      expect(disk.statFollowNow(`${root}/short`)?.kind).toBe("directory");
      expect(disk.statFollowNow(`${root}/short/self`)?.sizeBytes).toBe(4);
      expect(await disk.readLink(`${root}/d/self`)).toBe("../d/f");
      expect(disk.readLinkNow(`${root}/short`)).toBe("d");
      expect(textOf(await disk.read(`${root}/short/self`))).toBe("deep");
      const real = await disk.realPath(root);
      expect(await disk.realPath(`${root}/short/self`)).toBe(`${real}/d/f`);
    }));

  test("a symlink to nothing is there itself, but leads nowhere", () =>
    withDisk(async (disk, root) => {
      await disk.symlink("nowhere", `${root}/s`);
      expect(disk.statNow(`${root}/s`)?.kind).toBe("symlink");
      expect(disk.statFollowNow(`${root}/s`)).toBeUndefined();
      expect(await disk.realPath(`${root}/s`)).toBeUndefined();
    }));
}

function writerContract(withDisk: WithDisk): void {
  test("a file written in pieces appears whole, under its final name only", () =>
    withDisk(async (disk, root) => {
      const writer = await disk.createFile(`${root}/tmp`, 0o600);
      // Not awaited one by one: the order must hold all the same.
      await Promise.all(["one ", "two ", "three"].map((text) => writer.write(utf8(text))));
      expect(await names(disk, root)).toEqual(["tmp"]);
      await writer.commit(`${root}/final`, { sync: true });
      await writer.discard();
      expect(await names(disk, root)).toEqual(["final"]);
      expect(textOf(await disk.read(`${root}/final`))).toBe("one two three");
      expect((await disk.stat(`${root}/final`))?.mode).toBe(0o600);
    }));

  test("a commit waits for the pieces that are still being written", () =>
    withDisk(async (disk, root) => {
      const writer = await disk.createFile(`${root}/tmp`, 0o600);
      const pieces = [new Uint8Array(20_000_000).fill(1), utf8("end")];
      const writing = Promise.all(pieces.map((piece) => writer.write(piece)));
      await writer.commit(`${root}/final`, { sync: false });
      const seen = await disk.read(`${root}/final`);
      expect(seen.byteLength).toBe(20_000_003);
      expect(seen.indexOf(0)).toBe(-1);
      await writing;
    }));

  test("a discarded file leaves nothing and cannot be finished", () =>
    withDisk(async (disk, root) => {
      const writer = await disk.createFile(`${root}/tmp`, 0o600);
      await writer.write(utf8("half"));
      await writer.discard();
      await writer.discard();
      expect(await names(disk, root)).toEqual([]);
      await expect(writer.commit(`${root}/final`, { sync: false })).rejects.toMatchObject({
        code: "io",
      });
      expect(await names(disk, root)).toEqual([]);
    }));

  test("a temporary name that is taken is refused, and what holds it is left alone", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/tmp`, utf8("mine"), plain);
      await expect(disk.createFile(`${root}/tmp`, 0o600)).rejects.toMatchObject({
        code: "io",
        message: expect.stringMatching(/^EEXIST/),
      });
      expect(textOf(await disk.read(`${root}/tmp`))).toBe("mine");
    }));

  test("a file that cannot get its final name is removed", () =>
    withDisk(async (disk, root) => {
      const writer = await disk.createFile(`${root}/tmp`, 0o600);
      const committing = writer.commit(`${root}/no/final`, { sync: false });
      await expect(committing).rejects.toMatchObject({ message: expect.stringMatching(/^ENOENT/) });
      expect(await names(disk, root)).toEqual([]);
    }));
}

function failureContract(withDisk: WithDisk): void {
  test("failures carry code io and the errno in front", () =>
    withDisk(async (disk, root) => {
      await disk.writeAtomic(`${root}/f`, utf8("x"), plain);
      await disk.makeDirectory(`${root}/d/full`);
      const cases: readonly [string, () => Promise<unknown>][] = [
        ["ENOENT", () => disk.read(`${root}/no`)],
        ["ENOENT", () => disk.readRange(`${root}/no`, 0, 1)],
        ["ENOENT", async () => disk.readNow(`${root}/no`)],
        ["ENOENT", () => disk.readLink(`${root}/no`)],
        ["ENOENT", async () => disk.readLinkNow(`${root}/no`)],
        ["ENOENT", () => disk.writeAtomic(`${root}/no/f`, utf8("x"), plain)],
        ["ENOENT", () => disk.append(`${root}/no/f`, utf8("x"))],
        ["ENOENT", () => disk.rename(`${root}/no`, `${root}/g`)],
        ["ENOENT", () => disk.link(`${root}/no`, `${root}/g`)],
        ["ENOENT", () => disk.copy(`${root}/no`, `${root}/g`, 0o644)],
        ["ENOENT", () => disk.chmod(`${root}/no`, 0o644)],
        ["ENOENT", () => disk.touch(`${root}/no`)],
        ["EEXIST", () => disk.link(`${root}/f`, `${root}/d`)],
        ["EEXIST", () => disk.symlink("x", `${root}/f`)],
        ["EEXIST", () => disk.makeDirectory(`${root}/f`)],
        ["ENOTDIR", () => disk.makeDirectory(`${root}/f/below`)],
        ["ENOTDIR", () => disk.read(`${root}/f/below`)],
        ["EINVAL", () => disk.readLink(`${root}/f`)],
        ["EINVAL", () => disk.read(`${root}/nul\0`)],
        ["EISDIR", () => disk.read(`${root}/d`)],
        ["EISDIR", () => disk.writeAtomic(`${root}/d`, utf8("x"), plain)],
      ];
      for (const [errno, run] of cases) {
        const failed = await run().catch((error: unknown) => error);
        expect(failed, run.toString()).toMatchObject({
          name: "MeshError",
          code: "io",
          message: expect.stringMatching(new RegExp(`^${errno}: `)),
        });
      }
      expect(await names(disk, root)).toEqual(["d", "f"]);
    }));

  test("a loop of symlinks is an error, not a wait", () =>
    withDisk(async (disk, root) => {
      await disk.symlink("b", `${root}/a`);
      await disk.symlink("a", `${root}/b`);
      await expect(disk.read(`${root}/a`)).rejects.toMatchObject({
        message: expect.stringMatching(/^ELOOP/),
      });
    }));
}

async function names(disk: Disk, path: string): Promise<readonly string[] | undefined> {
  return (await disk.list(path))?.map((entry) => entry.name);
}
