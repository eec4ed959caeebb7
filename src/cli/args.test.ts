import { homedir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  dataDirOf,
  oneOf,
  parseAddr,
  parseCount,
  parseDurationMs,
  parseLabel,
  parseSizeBytes,
} from "./args.ts";
import { table } from "./table.ts";

test.each([
  ["20GB", 20e9],
  ["512MiB", 512 * 1024 * 1024],
  ["1.5tb", 1.5e12],
  ["100 kB", 100e3],
])("%s is %d bytes", (text, sizeBytes) => {
  expect(parseSizeBytes("--cache-size", text)).toBe(sizeBytes);
});

test.each(["20", "GB", "-1GB", "1e9GB", "20GBs", ""])("%j is no size", (text) => {
  expect(() => parseSizeBytes("--cache-size", text)).toThrow(/--cache-size takes a size/);
});

test.each([
  ["30m", 1_800_000],
  ["24h", 86_400_000],
  ["7d", 604_800_000],
])("%s is %d ms", (text, durationMs) => {
  expect(parseDurationMs("--expires", text, 1e12)).toBe(durationMs);
});

test.each(["0h", "24", "1y", "8d", "-1h"])("%j is no time of at most a week", (text) => {
  expect(() => parseDurationMs("--expires", text, 604_800_000)).toThrow(/at most 7d/);
});

test.each([
  ["192.168.1.5:4001", "/ip4/192.168.1.5/tcp/4001"],
  ["[fe80::1]:4001", "/ip6/fe80::1/tcp/4001"],
  ["build.lan:4001", "/dns/build.lan/tcp/4001"],
  ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/tcp/0"],
])("%s is the address %s", (text, addr) => {
  expect(parseAddr("--listen", text)).toBe(addr);
});

test.each(["4001", "host", "host:99999", "a b:1", "/", ":4001"])("%j is no address", (text) => {
  expect(() => parseAddr("--listen", text)).toThrow(/--listen takes an address/);
});

test("counts, labels and choices are read or refused", () => {
  expect(parseCount("--jobs", "12", 100)).toBe(12);
  for (const text of ["0", "101", "1.5", "x", ""]) {
    expect(() => parseCount("--jobs", text, 100)).toThrow(/from 1 to 100/);
  }
  expect(parseLabel("room=lab=2")).toEqual(["room", "lab=2"]);
  expect(() => parseLabel("=x")).toThrow(/KEY=VALUE/);
  expect(oneOf("--sandbox", "bwrap", ["bwrap", "none"])).toBe("bwrap");
  expect(() => oneOf("--sandbox", "no", ["bwrap", "none"])).toThrow(/bwrap or none/);
});

test("the data directory is the flag's, else the environment's, else the home's", () => {
  expect(dataDirOf("/a", { MESH_DIR: "/b" })).toBe("/a");
  expect(dataDirOf(undefined, { MESH_DIR: "/b" })).toBe("/b");
  expect(dataDirOf(undefined, { MESH_DIR: "" })).toBe(join(homedir(), ".mesh-node"));
  expect(dataDirOf("x", {})).toBe(join(process.cwd(), "x"));
});

test("a table is as wide as its widest cells and has no trailing space", () => {
  const columns = [
    { title: "NAME", align: "left" },
    { title: "N", align: "right" },
    { title: "", align: "left" },
  ] as const;
  expect(
    table(columns, [
      ["é", "10", ""],
      ["longer", "7", "x"],
    ]),
  ).toEqual(["NAME     N", "é       10", "longer   7  x"]);
});
