import { expect, test } from "vitest";
import type { BuildSummary } from "../node/control-api.ts";
import { duration, type SummaryContext, summaryText } from "./summary.ts";

const names = new Map([
  ["p1", "node-b"],
  ["p2", "node-c"],
]);
const context: SummaryContext = {
  verb: "built",
  exitCode: 0,
  tool: "make",
  kinds: new Map([
    ["c", 40],
    ["c++", 103],
  ]),
  cachedByPeer: new Map(),
  nameOf: (peer) => names.get(peer) ?? peer,
  whyNone: "everything was up to date",
  meshed: true,
};
const none: BuildSummary = {
  tasks: 0,
  local: 0,
  stolen: 0,
  cachedLocal: 0,
  cachedMesh: 0,
  fallback: [],
  wallMs: 12_345,
  clientCpuMs: 0,
  byPeer: {},
};
const some: BuildSummary = {
  ...none,
  tasks: 143,
  local: 47,
  stolen: 96,
  byPeer: { p2: 45, p1: 51 },
};

test("a build over peers says who did how much, the busiest first", () => {
  expect(summaryText(some, context)).toBe(
    "built in 12.3 s: 143 compiles, 96 on 2 peers (node-b 51, node-c 45), 47 here",
  );
});

test("what had to run here is told with the commonest reasons", () => {
  const fallback = [
    { reason: "peer-gone", count: 1 },
    { reason: "remote exit 2", count: 3 },
    { reason: "unknown-flag", count: 2 },
    { reason: "time macros", count: 1 },
  ];
  expect(summaryText({ ...some, fallback }, context)).toMatch(
    /; 7 had to run here \(remote exit 2 ×3, unknown-flag ×2, peer-gone ×1, …\)$/,
  );
  expect(summaryText({ ...some, fallback: fallback.slice(2, 3) }, context)).toMatch(
    /; 2 had to run here \(unknown-flag\)$/,
  );
});

test.each([
  "link",
  "links",
  "rustc-query",
  "query",
  "verbose",
  "preprocess-only",
  "no-c-flag",
  "no-peers",
  "no-steal",
  "slot-free",
])("ordinary work is not what had to run here: %s", (reason) => {
  const plain = summaryText(some, context);
  const fallback = [{ reason, count: 9 }];
  expect(summaryText({ ...some, fallback }, context)).toBe(plain);
  const real = { reason: "remote exit 2", count: 1 };
  expect(summaryText({ ...some, fallback: [...fallback, real] }, context)).toBe(
    `${plain}; 1 had to run here (remote exit 2)`,
  );
});

test("known results come first, with where they came from", () => {
  const cachedByPeer = new Map([["p1", 2]]);
  const mixed = { ...none, tasks: 12, cachedLocal: 7, cachedMesh: 2, stolen: 2, local: 1 };
  expect(summaryText({ ...mixed, byPeer: { p1: 2 } }, { ...context, cachedByPeer })).toBe(
    "built in 12.3 s: 12 compiles, 9 cached (7 here, 2 from node-b), 2 on 1 peer (node-b 2), 1 here",
  );
});

test.each([
  [8, 0, [], "8 cached here"],
  [0, 2, [["p1", 2]], "2 cached from node-b"],
  [
    0,
    3,
    [
      ["p1", 1],
      ["p2", 2],
    ],
    "3 cached (2 from node-c, 1 from node-b)",
  ],
  [1, 2, [], "3 cached (1 here, 2 from peers)"],
  [0, 2, [], "2 cached from peers"],
] as const)(
  "%i known here and %i in the mesh are told shortly",
  (cachedLocal, cachedMesh, by, text) => {
    const summary = { ...none, tasks: cachedLocal + cachedMesh, cachedLocal, cachedMesh };
    const cachedByPeer = new Map<string, number>(by);
    expect(summaryText(summary, { ...context, cachedByPeer })).toContain(`compiles, ${text}`);
  },
);

test("a comparison says how it went", () => {
  expect(summaryText({ ...some, compared: 96, differing: 0 }, context)).toMatch(
    /47 here; 96 done again to compare, all came out the same$/,
  );
  expect(summaryText({ ...some, compared: 96, differing: 2 }, context)).toMatch(
    /; 96 done again to compare, 2 came out differently$/,
  );
});

test("a build with links in it counts tasks", () => {
  const kinds = new Map([["link", 1]]);
  expect(summaryText({ ...none, tasks: 1, local: 1 }, { ...context, kinds })).toBe(
    "built in 12.3 s: 1 task, 1 here",
  );
});

test("many peers are not all named", () => {
  const byPeer = Object.fromEntries(Array.from({ length: 9 }, (_, at) => [`n${at}`, 9 - at]));
  expect(summaryText({ ...some, byPeer }, context)).toContain(
    "96 on 9 peers (n0 9, n1 8, n2 7, n3 6, n4 5, 4 others)",
  );
});

test("no task at all is explained, but not when the tool failed or there is no mesh", () => {
  expect(summaryText(none, context)).toBe(
    "built in 12.3 s; no compiler came through the mesh: everything was up to date",
  );
  expect(summaryText(none, { ...context, exitCode: 2 })).toBe(
    "make failed (exit code 2) after 12.3 s",
  );
  expect(summaryText(none, { ...context, meshed: false })).toBe("built in 12.3 s");
});

test.each([
  [0, "0.0 s"],
  [59_949, "59.9 s"],
  [59_990, "1 min 00 s"],
  [125_400, "2 min 05 s"],
  [3_725_000, "1 h 02 min"],
])("%d ms is %s", (wallMs, text) => {
  expect(duration(wallMs)).toBe(text);
});
