import { rmSync, symlinkSync, truncateSync, utimesSync } from "node:fs";
import { join, relative } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { makeFolder, writeFiles } from "./rust-world.contract.ts";
import { createListing, type Listing, type PackageQuery, readPackage } from "./rustc-package.ts";

let folder = "";
let list: Listing | undefined;
beforeEach(() => {
  list = undefined;
  folder = makeFolder();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function names(query: Partial<PackageQuery> = {}): Promise<readonly string[] | undefined> {
  const disk = createDisk();
  list ??= createListing(disk, createClock());
  const found = await readPackage(
    { disk, list },
    {
      ...{ folders: [join(folder, "p")], source: join(folder, "p/src/lib.rs"), cwd: folder },
      ...{ macros: false, ...query },
    },
  );
  const all = found && [...found.small, ...found.large];
  return all?.map((path) => relative(folder, path)).sort();
}

test("a package is everything in its folder but other packages and what was made", async () => {
  writeFiles(folder, {
    "p/Cargo.toml": "",
    "p/src/lib.rs": "",
    "p/src/target/mod.rs": "",
    "p/data/a.bin": "x".repeat(2 * 1024 * 1024),
    "p/member/Cargo.toml": "",
    "p/member/lib.rs": "",
    "p/target/CACHEDIR.TAG": "",
    "p/target/debug/x": "",
    "p/.git/HEAD": "",
    "p/node_modules/x.js": "",
    "outside.txt": "",
  });
  expect(await names()).toEqual([
    ...["p/Cargo.toml", "p/data/a.bin", "p/src/lib.rs", "p/src/target/mod.rs"],
  ]);
});

/** What no peer is to see, wherever a package keeps it. */
const secrets = [
  ...[".env", ".npmrc", ".cargo/credentials.toml", "server.pem", "keys/tls.KEY", "cert.p12"],
  ...["id_rsa", "id_ed25519.pub", "aws-credentials.json", ".ssh/config"],
];

test("secrets of a package stay here, sources about them do not", async () => {
  const files = ["Cargo.toml", "src/credentials.rs", "src/credentials/aws.rs", "src/lib.rs"];
  const all = [...files, ...secrets].map((name) => [`p/${name}`, ""]);
  writeFiles(folder, Object.fromEntries(all));
  symlinkSync("../.env", join(folder, "p/src/settings"));
  expect(await names()).toEqual(files.map((name) => `p/${name}`));
});

test("macros are told which secrets they will not find, but not what only others read", async () => {
  writeFiles(folder, {
    ...{ "ws/.env": "", "ws/deploy.key": "", "ws/p/src/lib.rs": "", "ws/p/.sqlx/q.json": "" },
    ...{ "ws/p/.gitignore": "", "ws/p/.cargo-ok": "", "ws/p/.github/x.yml": "" },
  });
  const disk = createDisk();
  const cwd = join(folder, "ws");
  const query = { folders: [join(cwd, "p")], source: join(cwd, "p/src/lib.rs"), cwd };
  const reader = { disk, list: createListing(disk, createClock()) };
  const found = await readPackage(reader, { ...query, macros: true });
  expect(found?.withheld.toSorted()).toEqual([".env", ".sqlx", "deploy.key"]);
  expect(found?.small).toEqual([join(cwd, "p/src/lib.rs")]);
});

test("OUT_DIR counts although it lies where things are made", async () => {
  writeFiles(folder, { "p/src/lib.rs": "", "p/target/CACHEDIR.TAG": "", "p/target/out/x.rs": "" });
  const folders = [join(folder, "p"), join(folder, "p/target/out")];
  expect(await names({ folders })).toEqual(["p/src/lib.rs", "p/target/out/x.rs"]);
});

test("symlinks are followed, but not in circles", async () => {
  writeFiles(folder, { "p/src/lib.rs": "", "common/x.rs": "" });
  symlinkSync("../../common", join(folder, "p/src/common"));
  symlinkSync("..", join(folder, "p/src/up"));
  symlinkSync("nowhere", join(folder, "p/src/broken"));
  symlinkSync("../p", join(folder, "common/back"));
  expect(await names()).toEqual(["p/src/common/x.rs", "p/src/lib.rs"]);
});

test("macros may look at the plain files of the workspace", async () => {
  writeFiles(folder, {
    "ws/group/p/src/lib.rs": "",
    "ws/Cargo.toml": "",
    "ws/.env": "",
    "ws/group/settings.toml": "",
    "ws/other/x.txt": "",
  });
  const at = {
    folders: [join(folder, "ws/group/p")],
    source: join(folder, "ws/group/p/src/lib.rs"),
  };
  const cwd = join(folder, "ws");
  const inside = ["ws/Cargo.toml", "ws/group/p/src/lib.rs", "ws/group/settings.toml"];
  expect(await names({ ...at, cwd, macros: true })).toEqual(inside);
  expect(await names({ ...at, cwd })).toEqual(["ws/group/p/src/lib.rs"]);
  symlinkSync("ws", join(folder, "way"));
  const through = { folders: [join(folder, "way/group/p")], source: at.source };
  expect(await names({ ...through, cwd, macros: true })).toEqual(
    ["way/group/p/src/lib.rs", "ws/Cargo.toml", "ws/group/settings.toml"].sort(),
  );
});

test("a package that is larger than an action should be is given up", async () => {
  writeFiles(folder, { "p/data": "" });
  expect(await names()).toEqual(["p/data"]);
  truncateSync(join(folder, "p/data"), 129 * 1024 * 1024);
  expect(await names()).toBeUndefined();
});

test("a file that comes later is seen, also right after the folder was looked at", async () => {
  writeFiles(folder, { "p/a.rs": "", "p/old/b.rs": "" });
  const past = new Date(1_000_000);
  utimesSync(join(folder, "p/old"), past, past);
  expect(await names()).toEqual(["p/a.rs", "p/old/b.rs"]);
  writeFiles(folder, { "p/new.rs": "", "p/old/new.rs": "" });
  expect(await names()).toEqual(["p/a.rs", "p/new.rs", "p/old/b.rs", "p/old/new.rs"]);
});
