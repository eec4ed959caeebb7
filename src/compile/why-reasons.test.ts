import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { reasonRows, reasonText } from "./why-reasons.ts";

test("a reason is told in words, with what it is about in its place", () => {
  expect(reasonText("link")).toMatch(/it links/);
  expect(reasonText("unknown-flag -fnew")).toBe("the mesh does not know the option -fnew");
  expect(reasonText("unknown-flag")).toBe("the mesh does not know the option");
  expect(reasonText("environment LD_PRELOAD")).toMatch(/the variable LD_PRELOAD changes/);
  expect(reasonText("exit-code 1")).toBe("it ended with exit code 1");
  expect(reasonText("blob-missing: blob x is not in the store")).toBe(
    "bytes it needs were nowhere to be had (blob x is not in the store)",
  );
});

test("a reason that nobody has put into words is told as it is", () => {
  expect(reasonText("moon-phase")).toBe("moon-phase");
  expect(reasonText("exit 1 at home")).toBe("exit 1 at home");
  expect(reasonText("constructor")).toBe("constructor");
});

/** The places where a planner or a door gives a reason. */
const places = [
  /\bhere\("([^"]+)"/g,
  /\bstays\("([^"]+)"/g,
  /"here:([a-z-]+)"/g,
  /\breason: "([^"]+)"/g,
  /reason \?\?= "([^"]+)"/g,
  /\bwhyHere: "([^"]+)"/g,
  /Promise\.resolve\("([^"]+)"\)/g,
  /return "([a-z]+(?:-[a-z]+)+)"/g,
  /\? "([a-z]+(?:-[a-z]+)+)" : undefined/g,
  /MeshError\(\s*"refused",\s*["`]([a-z]+(?:-[a-z]+)+): /g,
];

test("every reason that the sources give has its words, and its row in the documentation", () => {
  const given = new Set<string>();
  for (const name of readdirSync(import.meta.dirname)) {
    if (!name.endsWith(".ts") || /\.(test|contract)\.ts$/.test(name)) continue;
    const text = readFileSync(join(import.meta.dirname, name), "utf8");
    for (const place of places)
      for (const [, reason = ""] of text.matchAll(place)) given.add(reason);
  }
  expect(given.size).toBeGreaterThan(40);
  expect([...given].filter((reason) => reasonText(reason) === reason)).toEqual([]);
  const docs = readFileSync(join(import.meta.dirname, "../../docs/explain.md"), "utf8");
  expect(reasonRows().filter((row) => !docs.includes(`${row}\n`))).toEqual([]);
});
