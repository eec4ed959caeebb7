/** Properties of the code itself: who may import whom, what may surprise, how long a file may be. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

/** The folders of src/, lowest first. A file may import only from rows above its own. */
const rows = [
  ["base"],
  ["host"],
  ["sim", "wire"],
  ["peer"],
  ["blob"],
  ["action"],
  ["exec", "work"],
  ["node"],
  ["compile", "job", "gateway", "dashboard"],
  ["cli"],
];

/** Whatever would make a replay differ from the run it repeats. */
const surprise =
  /\b(Date\.now|performance\.now|Math\.random|setTimeout|setInterval|AbortSignal\.timeout)\b|"node:(?!assert|path|util|module)/;

/** node/ owns the control socket and the lock on the data directory, which no port offers. */
const mayListen = new Set(["node/control-server.ts", "node/paths.ts"]);

const row = (folder: string) => rows.findIndex((names) => names.includes(folder));
const files = readdirSync("src", { recursive: true, encoding: "utf8" })
  .filter((path) => path.includes("/") && /(?<!\.(test|contract|e2e)|fixture)\.ts$/.test(path))
  .map((path) => ({
    path,
    folder: path.split("/")[0] ?? "",
    text: readFileSync(`src/${path}`, "utf8"),
  }));
const written = files.filter(({ path }) => !path.startsWith("wire/gen/"));

test("every folder of src/ stands in a row", () => {
  expect(files.filter(({ folder }) => row(folder) < 0).map(({ path }) => path)).toEqual([]);
});

test.each(files)("$path imports only from rows above", ({ folder, text }) => {
  const imported = [...text.matchAll(/from "(?:\.\.\/)+([a-z]+)\//g)].map(([, to]) => to ?? "");
  const wrong = imported.filter((to) => to !== folder && row(to) >= row(folder));
  expect(wrong).toEqual([]);
});

const replayed = files.filter(
  ({ path, folder }) => folder !== "host" && row(folder) <= row("node") && !mayListen.has(path),
);

test.each(replayed)("$path holds no surprise", ({ text }) => {
  expect(text).not.toMatch(surprise);
});

test.each(written)("$path is at most 400 lines", ({ text }) => {
  expect(text.split("\n").length).toBeLessThanOrEqual(401);
});

test.each(written)("$path says first what it is for", ({ text }) => {
  expect(text.replace(/^#!.*\n/, "")).toMatch(/^\/\*\*/);
});

test.each(written)(
  "$path has no class but MeshError, no enum and no default export",
  ({ path, text }) => {
    const classes = [...text.matchAll(/^(?:export )?(?:abstract )?class (\w+)/gm)].map(
      ([, name]) => name,
    );
    expect(classes).toEqual(path === "base/errors.ts" ? ["MeshError"] : []);
    expect(text).not.toMatch(/^export default|^(?:export )?(?:const )?enum /m);
  },
);
