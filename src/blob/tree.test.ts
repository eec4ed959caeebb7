import { readFileSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Digest, digestOf, hashHexOf, makeDigest, sizeBytesOf } from "../base/digest.ts";
import {
  DirectorySchema,
  type Digest as ProtoDigest,
  TreeSchema,
} from "../wire/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { digestToProto } from "../wire/messages.ts";
import { decodeTree, encodeTree, type TreeEntry } from "./tree.ts";
import { compareNames, readFolder, writeFolder, writeTree } from "./tree-bytes.ts";
import { createTreeEncoder } from "./tree-encoder.ts";
import { treeMaxDepth } from "./tree-names.ts";

const malformed = expect.objectContaining({ code: "malformed" });
const a = digestOf(new Uint8Array([1]));
const b = digestOf(new Uint8Array([2]));

const file = (path: string, digest: Digest = a, executable = false): TreeEntry => ({
  kind: "file",
  path,
  digest,
  executable,
});
const link = (path: string, target: string): TreeEntry => ({ kind: "symlink", path, target });
const folder = (path: string): TreeEntry => ({ kind: "directory", path });

const roundTrip = (entries: readonly TreeEntry[]): readonly TreeEntry[] => {
  const { treeBytes, root } = encodeTree(entries);
  return decodeTree(treeBytes, root);
};

const name = fc.oneof(
  fc.constantFrom("a", "b", "c", "usr", "include", "\u{1f600}", "\uffee", "é", "a.b", "a-b"),
  fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 12 })
    .filter((text) => !/^\.\.?$|[/\0]/.test(text) && text.isWellFormed()),
);
const anyDigest = fc
  .tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat(2 ** 31 - 1), fc.nat(300))
  .map(([hash, low, high]) =>
    makeDigest(Buffer.from(hash).toString("hex"), high < 200 ? low : low + high * 2 ** 32),
  );

/** Trees without conflicts: what stands at a path that is also a folder is left out. */
const anyEntries: fc.Arbitrary<TreeEntry[]> = fc
  .array(
    fc.tuple(
      fc.array(name, { minLength: 1, maxLength: 5 }).map((names) => `/${names.join("/")}`),
      fc.oneof(
        fc.record({ kind: fc.constant("file"), digest: anyDigest, executable: fc.boolean() }),
        fc.record({ kind: fc.constant("symlink"), target: name }),
        fc.record({ kind: fc.constant("directory") }),
      ),
    ),
    { maxLength: 40 },
  )
  .map((list) => {
    const byPath = new Map(list);
    const parents = new Set<string>();
    for (const path of byPath.keys()) {
      for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
        parents.add(path.slice(0, at));
      }
    }
    return [...byPath]
      .filter(([path]) => !parents.has(path))
      .map(([path, rest]) => ({ path, ...rest }) as TreeEntry);
  });

const byPath = (left: TreeEntry, right: TreeEntry): number => (left.path < right.path ? -1 : 1);

test("what goes into a tree comes out of it", () => {
  fc.assert(
    fc.property(anyEntries, (entries) => {
      expect([...roundTrip(entries)].sort(byPath)).toEqual([...entries].sort(byPath));
    }),
  );
});

test("a tree does not depend on the order of its entries, nor on implied folders being listed", () => {
  fc.assert(
    fc.property(anyEntries, fc.nat(), (entries, turn) => {
      const first = encodeTree(entries);
      const turned = [...entries.slice(turn % 7), ...entries.slice(0, turn % 7)].reverse();
      const parents = entries
        .map(({ path }) => folder(path.slice(0, path.lastIndexOf("/")) || "/"))
        .concat(entries.slice(0, 3));
      expect(encodeTree([...turned, ...parents])).toEqual(first);
    }),
  );
});

test.each([
  ["everything", { namesMax: 100_000, keptMaxBytes: 2 ** 25 }],
  ["next to nothing", { namesMax: 5, keptMaxBytes: 100 }],
])("remembering %s of the trees before changes no tree", (_what, options) => {
  fc.assert(
    fc.property(fc.array(anyEntries, { minLength: 2, maxLength: 6 }), (trees) => {
      const remembering = createTreeEncoder(options);
      // Each once more, after others had the same names for something else.
      for (const entries of [...trees, ...trees]) {
        const { root, tree, treeBytes } = createTreeEncoder()(entries);
        const again = remembering(entries);
        expect(again.root).toBe(root);
        expect(again.tree).toBe(tree);
        expect(Buffer.from(again.treeBytes).equals(treeBytes)).toBe(true);
      }
    }),
  );
});

test("a refused tree leaves nothing behind in the ones after it", () => {
  const encode = createTreeEncoder();
  const good = [file("/a/x"), file("/a/y", b)];
  const { root } = encode(good);
  expect(() => encode([file("/a/x"), file("/a/z"), file("/a/x/y")])).toThrow(malformed);
  expect(() => encode([file("/a/x", b), file("/a/x", a)])).toThrow(malformed);
  expect(encode(good).root).toBe(root);
  expect(encode([file("/a/x")]).root).toBe(createTreeEncoder()([file("/a/x")]).root);
});

test("the bytes are those of the generated codec", () => {
  fc.assert(
    fc.property(anyEntries, (entries) => {
      const { root, tree, treeBytes } = encodeTree(entries);
      const byCodec = encodeWithCodec(entries);
      expect(Buffer.from(treeBytes).equals(byCodec.treeBytes)).toBe(true);
      expect(root).toBe(byCodec.root);
      expect(tree).toBe(digestOf(byCodec.treeBytes));
    }),
  );
});

/** The same canonical form, built the slow way from the message types. */
function encodeWithCodec(entries: readonly TreeEntry[]): { root: Digest; treeBytes: Uint8Array } {
  const children = new Map<Digest, ReturnType<typeof build>>();
  const build = (prefix: string) => {
    const files: { name: string; digest: ProtoDigest; isExecutable: boolean }[] = [];
    const symlinks: { name: string; target: string }[] = [];
    const below = new Set<string>();
    for (const entry of entries) {
      if (!entry.path.startsWith(`${prefix}/`)) continue;
      const rest = entry.path.slice(prefix.length + 1);
      const [first = ""] = rest.split("/");
      if (rest !== first || entry.kind === "directory") below.add(first);
      else if (entry.kind === "symlink") symlinks.push({ name: rest, target: entry.target });
      else {
        const digest = digestToProto(entry.digest);
        files.push({ name: rest, digest, isExecutable: entry.executable });
      }
    }
    const byBytes = (left: { name: string }, right: { name: string }): number =>
      Buffer.compare(Buffer.from(left.name), Buffer.from(right.name));
    const directories = [...below]
      .map((text) => ({ name: text }))
      .sort(byBytes)
      .map(({ name: text }): { name: string; digest: ProtoDigest } => {
        const child = build(`${prefix}/${text}`);
        const digest = digestOf(toBinary(DirectorySchema, child));
        if (!children.has(digest)) children.set(digest, child);
        return { name: text, digest: digestToProto(digest) };
      });
    return create(DirectorySchema, {
      files: files.sort(byBytes),
      directories,
      symlinks: symlinks.sort(byBytes),
    });
  };
  const root = build("");
  const treeBytes = toBinary(
    TreeSchema,
    create(TreeSchema, { root, children: [...children.values()] }),
  );
  return { root: digestOf(toBinary(DirectorySchema, root)), treeBytes };
}

test("names are ordered by their UTF-8 bytes", () => {
  fc.assert(
    fc.property(name, name, (left, right) => {
      const expected = Buffer.compare(Buffer.from(left), Buffer.from(right));
      expect(Math.sign(compareNames(left, right))).toBe(expected);
    }),
  );
  // JavaScript's own order has these two the other way round.
  expect(compareNames("\uffee", "\u{1f600}")).toBeLessThan(0);
});

test.each([
  ["a file and a folder", [file("/a"), file("/a/b")]],
  ["a folder and a file", [file("/a/b"), file("/a")]],
  ["two files", [file("/a", a), file("/a", b)]],
  ["two modes", [file("/a", a, true), file("/a", a, false)]],
  ["a file and a symlink", [file("/a"), link("/a", "b")]],
  ["two symlinks", [link("/a", "b"), link("/a", "c")]],
  ["an empty folder and a file", [folder("/a"), file("/a")]],
])("%s at one path are refused", (_what, entries) => {
  expect(() => encodeTree(entries)).toThrow(malformed);
});

test.each([
  "",
  "a",
  "a/b",
  "/",
  "/a/",
  "//a",
  "/a//b",
  "/./a",
  "/a/..",
  "/a/../b",
  "/a\0b",
  `/${"x".repeat(256)}`,
  "/\ud800",
])("%j is no path of a file", (path) => {
  expect(() => encodeTree([file(path)])).toThrow(malformed);
});

test("a symlink has a target", () => {
  expect(() => encodeTree([link("/a", "")])).toThrow(malformed);
  expect(() => encodeTree([link("/a", "b\0c")])).toThrow(malformed);
  expect(() => encodeTree([link("/a", "x".repeat(5000))])).toThrow(malformed);
});

test("the depth of a tree is bounded on both sides, at the same depth", () => {
  const deepest = `/${Array.from({ length: treeMaxDepth }, () => "d").join("/")}`;
  expect(roundTrip([file(deepest)])).toEqual([file(deepest)]);
  expect(() => encodeTree([file(`${deepest}/d`)])).toThrow(/64 folders deep/);
  let bytes = writeFolder({ files: [], folders: [], symlinks: [] });
  const children: Uint8Array[] = [];
  for (let depth = 0; depth < treeMaxDepth; depth += 1) {
    children.push(bytes);
    const folders = [{ name: "d", digest: digestOf(bytes) }];
    bytes = writeFolder({ files: [], folders, symlinks: [] });
  }
  const root = digestOf(bytes);
  expect(() => decodeTree(writeTree(bytes, children), root)).toThrow(/64 folders deep/);
});

test("a small tree that unfolds to a huge one is refused", () => {
  let bytes = writeFolder({ files: [], folders: [], symlinks: [] });
  const children: Uint8Array[] = [];
  for (let depth = 0; depth < 40; depth += 1) {
    children.push(bytes);
    const digest = digestOf(bytes);
    const folders = ["a", "b"].map((text) => ({ name: text, digest }));
    bytes = writeFolder({ files: [], folders, symlinks: [] });
  }
  const root = digestOf(bytes);
  expect(() => decodeTree(writeTree(bytes, children), root)).toThrow(/200000 entries/);
});

const empty = { files: [], folders: [], symlinks: [] };
const plain = (text: string) => ({ name: text, digest: a, executable: false });

test.each([
  ["an empty name", { ...empty, files: [plain("")] }],
  ["a dot", { ...empty, files: [plain(".")] }],
  ["two dots", { ...empty, files: [plain("..")] }],
  ["a slash", { ...empty, files: [plain("a/b")] }],
  ["a zero byte", { ...empty, symlinks: [{ name: "a\0", target: "b" }] }],
  ["files out of order", { ...empty, files: [plain("b"), plain("a")] }],
  ["a file twice", { ...empty, files: [plain("a"), plain("a")] }],
  [
    "one name in two lists",
    { ...empty, files: [plain("a")], symlinks: [{ name: "a", target: "b" }] },
  ],
  ["a symlink to nothing", { ...empty, symlinks: [{ name: "a", target: "" }] }],
  ["a folder that is not there", { ...empty, folders: [{ name: "a", digest: b }] }],
])("a tree with %s is refused", (_what, node) => {
  const bytes = writeFolder(node);
  expect(() => decodeTree(writeTree(bytes, []), digestOf(bytes))).toThrow(malformed);
});

test("a tree is refused when it is another one, is changed, or carries more than it names", () => {
  const entries = [file("/a/x", a), file("/b/y", b)];
  const { root, treeBytes } = encodeTree(entries);
  expect(() => decodeTree(treeBytes, b)).toThrow(malformed);
  expect(() => decodeTree(new Uint8Array(0), root)).toThrow(malformed);
  for (let at = 0; at < treeBytes.byteLength; at += 1) {
    const flipped = treeBytes.slice();
    flipped[at] = (flipped[at] ?? 0) ^ 1;
    expect(() => decodeTree(flipped, root)).toThrow(malformed);
  }
  const rootBytes = writeFolder({ ...empty, files: [plain("a")] });
  const extra = writeFolder({ ...empty, files: [plain("b")] });
  const decode = (children: Uint8Array[]) =>
    decodeTree(writeTree(rootBytes, children), digestOf(rootBytes));
  expect(decode([])).toEqual([file("/a")]);
  expect(() => decode([extra])).toThrow(malformed);
  expect(() => decode([rootBytes])).toThrow(malformed);
});

test("random bytes are refused, never worse", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        expect(writeFolder(readFolder(bytes))).toEqual(Buffer.from(bytes));
      } catch (error) {
        expect(error).toEqual(malformed);
      }
    }),
    { numRuns: 1000 },
  );
});

interface Vector {
  readonly name: string;
  readonly entries: readonly (
    | {
        readonly file: string;
        readonly hash: string;
        readonly sizeBytes: number;
        readonly executable: boolean;
      }
    | { readonly symlink: string; readonly target: string }
    | { readonly directory: string }
  )[];
  readonly root: { readonly hash: string; readonly sizeBytes: number };
  readonly tree: { readonly hash: string; readonly sizeBytes: number };
  readonly treeHex: string;
}

const vectors = JSON.parse(readFileSync("protocols/vectors/tree.json", "utf8")) as Vector[];

test.each(vectors)("golden bytes: $name", (vector) => {
  const entries = vector.entries.map((entry): TreeEntry => {
    if ("symlink" in entry) return link(entry.symlink, entry.target);
    if ("directory" in entry) return folder(entry.directory);
    return file(entry.file, makeDigest(entry.hash, entry.sizeBytes), entry.executable);
  });
  const { root, tree, treeBytes } = encodeTree(entries);
  expect(Buffer.from(treeBytes).toString("hex")).toBe(vector.treeHex);
  expect({ hash: hashHexOf(root), sizeBytes: sizeBytesOf(root) }).toEqual(vector.root);
  expect({ hash: hashHexOf(tree), sizeBytes: sizeBytesOf(tree) }).toEqual(vector.tree);
  expect([...decodeTree(treeBytes, root)].sort(byPath)).toEqual(
    entries.filter(({ path }) => path !== "/").sort(byPath),
  );
});
