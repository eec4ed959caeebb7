import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { diskContract } from "./disk.contract.ts";
import { createDisk, temporaryPrefix } from "./disk.ts";

diskContract(inFolder);

async function inFolder(
  body: (disk: ReturnType<typeof createDisk>, root: string) => Promise<void>,
): Promise<void> {
  const root = fs.mkdtempSync(join(tmpdir(), "mesh-disk-"));
  try {
    await body(createDisk(), root);
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}

const canMount = process.getuid?.() === 0 && tryMount();
if (!canMount) console.log("skipped: the full-disk test needs the right to mount a tmpfs");

test.skipIf(!canMount)("a full disk leaves no piece of a file and says no-space", () =>
  inFolder(async (disk, root) => {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "none", root]);
    try {
      const big = new Uint8Array(100_000).fill(1);
      const options = { mode: 0o644, sync: false };
      await disk.writeAtomic(`${root}/f`, utf8("old"), options);
      const full = { name: "MeshError", code: "no-space", message: /^ENOSPC: / };
      const matching = { ...full, message: expect.stringMatching(full.message) };
      await expect(disk.writeAtomic(`${root}/f`, big, options)).rejects.toMatchObject(matching);
      expect(fs.readdirSync(root)).toEqual(["f"]);
      expect(fs.readFileSync(`${root}/f`, "utf8")).toBe("old");

      const writer = await disk.createFile(`${root}/tmp`, 0o600);
      await expect(writer.write(big)).rejects.toMatchObject(matching);
      await expect(writer.commit(`${root}/g`, { sync: false })).rejects.toMatchObject(matching);
      expect(fs.readdirSync(root)).toEqual(["f"]);
    } finally {
      execFileSync("umount", [root]);
    }
  }),
);

test("readers never see a piece of a file while it is replaced", () =>
  inFolder(async (disk, root) => {
    const versions = [new Uint8Array(200_000).fill(1), new Uint8Array(300_000).fill(2)];
    const path = `${root}/f`;
    const write = (index: number) =>
      disk.writeAtomic(path, versions[index % 2] ?? utf8(""), { mode: 0o644, sync: false });
    await write(0);
    let writing = true;
    const writer = (async () => {
      for (let index = 1; index < 40; index++) await write(index);
      writing = false;
    })();
    while (writing) {
      const seen = await disk.read(path);
      expect(versions.some((version) => Buffer.compare(version, seen) === 0)).toBe(true);
    }
    await writer;
  }));

test("many writers of one path at once end with one whole version and no leftovers", () =>
  inFolder(async (disk, root) => {
    const version = (index: number) => new Uint8Array(1000).fill(index);
    await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        disk.writeAtomic(`${root}/f`, version(index), { mode: 0o644, sync: false }),
      ),
    );
    const seen = await disk.read(`${root}/f`);
    expect(new Set(seen).size).toBe(1);
    expect(seen.byteLength).toBe(1000);
    expect(fs.readdirSync(root)).toEqual(["f"]);
  }));

test("unfinished files can be told by their names", () =>
  inFolder(async (disk, root) => {
    const seen = new Set<string>();
    const watcher = fs.watch(root, (_, name) => seen.add(name ?? ""));
    await disk.writeAtomic(`${root}/f`, new Uint8Array(1_000_000), { mode: 0o644, sync: true });
    while (!seen.has("f")) await new Promise((resolve) => setImmediate(resolve));
    watcher.close();
    expect([...seen].filter((name) => !name.startsWith(temporaryPrefix))).toEqual(["f"]);
    expect(seen.size).toBeGreaterThan(1);
  }));

test("the kernel's own files, which tell no size, are read to their end", async () => {
  const disk = createDisk();
  const expected = fs.readFileSync("/proc/version");
  expect(Buffer.from(await disk.read("/proc/version"))).toEqual(expected);
  expect(Buffer.from(disk.readNow("/proc/version"))).toEqual(expected);
});

test("a named pipe or device in a file's place is refused instead of waited for", () =>
  inFolder(async (disk, root) => {
    execFileSync("mkfifo", [`${root}/pipe`]);
    for (const path of [`${root}/pipe`, "/dev/zero"]) {
      await expect(disk.read(path)).rejects.toMatchObject({ code: "io" });
      await expect(disk.readRange(path, 0, 10)).rejects.toMatchObject({ code: "io" });
      expect(() => disk.readNow(path)).toThrow(/^EINVAL/);
    }
    expect((await disk.stat(`${root}/pipe`))?.kind).toBe("other");
  }));

test.skipIf(process.getuid?.() !== 0)("folders that bar their own owner are removed too", () =>
  inFolder(async (_, root) => {
    fs.mkdirSync(`${root}/d/locked`, { recursive: true });
    fs.writeFileSync(`${root}/d/locked/f`, "x");
    fs.chmodSync(`${root}/d/locked`, 0);
    for (const path of ["", "/d", "/d/locked", "/d/locked/f"]) fs.chownSync(root + path, 65534, -1);
    // Root may enter any folder, so another user has to try.
    const script = `
      const { createDisk } = await import(${JSON.stringify(new URL("./disk.ts", import.meta.url))});
      process.setuid(65534);
      await createDisk().remove(${JSON.stringify(`${root}/d`)});
    `;
    execFileSync(process.execPath, ["--input-type=module", "-e", script]);
    expect(fs.readdirSync(root)).toEqual([]);
  }),
);

function tryMount(): boolean {
  const root = fs.mkdtempSync(join(tmpdir(), "mesh-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "none", root], { stdio: "ignore" });
    execFileSync("umount", [root]);
    return true;
  } catch {
    return false;
  } finally {
    fs.rmdirSync(root);
  }
}

test.skipIf(process.platform !== "linux")(
  "a folder that cannot be made is refused, not tried for ever",
  async () => {
    await expect(createDisk().makeDirectory("/proc/mesh-node/x")).rejects.toMatchObject({
      code: "io",
      message: expect.stringContaining("ENOENT"),
    });
  },
);

test("folders with a common parent can be made at once", async () => {
  const root = fs.mkdtempSync(join(tmpdir(), "mesh-folders-"));
  const disk = createDisk();
  try {
    const names = Array.from({ length: 200 }, (_, index) =>
      join(root, `a${index % 5}`, "b", `${index}`),
    );
    await Promise.all(names.map((name) => disk.makeDirectory(name)));
    for (const name of names) expect((await disk.stat(name))?.kind).toBe("directory");
  } finally {
    await disk.remove(root);
  }
});
