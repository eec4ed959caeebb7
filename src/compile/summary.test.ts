import { expect, test } from "vitest";
import { asPeerId } from "../base/ids.ts";
import { emptyTally, summaryOf, type TallyEntry, tally } from "./summary.ts";

const peer = asPeerId("p");
const here = (reason: string | undefined): TallyEntry => ({
  source: "here",
  peer: undefined,
  reason,
});
const sum = (entries: readonly TallyEntry[]) =>
  summaryOf(entries.reduce(tally, emptyTally), { wallMs: 10.4, clientCpuMs: 2.6 });

test("a summary counts where each task was done, and why not elsewhere", () => {
  const entries: TallyEntry[] = [
    here(undefined),
    here("link"),
    here("peer-gone"),
    here("peer-gone"),
    { source: "there", peer, reason: undefined },
    { source: "cached-here", peer: undefined, reason: undefined },
    { source: "cached-mesh", peer: undefined, reason: undefined },
  ];
  expect(sum(entries)).toEqual({
    tasks: 7,
    local: 4,
    stolen: 1,
    cachedLocal: 1,
    cachedMesh: 1,
    fallback: [
      { reason: "peer-gone", count: 2 },
      { reason: "link", count: 1 },
    ],
    wallMs: 10,
    clientCpuMs: 3,
    byPeer: { p: 1 },
  });
});

test("having nobody to share with, or not wanting to, is no fallback", () => {
  expect(sum([here("no-peers"), here("no-steal")])).toMatchObject({ local: 2, fallback: [] });
});

test("reasons without end are counted together", () => {
  const entries = Array.from({ length: 100 }, (_, i) => here(`failure ${i}`));
  const { fallback } = sum(entries);
  expect(fallback).toHaveLength(65);
  expect(fallback[0]).toEqual({ reason: "other", count: 36 });
});
