import { expect, test } from "vitest";
import { asPeerId } from "../base/ids.ts";
import type { Peer } from "../peer/directory.ts";
import { strategies } from "./strategy.ts";
import { chooseVictim, type VictimView } from "./victim.ts";

const peer = (name: string, stealable: number | undefined): Peer => ({
  id: asPeerId(name),
  name,
  slots: 1,
  sandbox: "bwrap",
  platform: "linux/x86_64",
  labels: {},
  addrs: [],
  load:
    stealable === undefined
      ? undefined
      : { queued: stealable, stealable, slots: 1, busy: 1, hot: 0n, atMs: 0 },
  rttMs: undefined,
});

const drawing = (below: VictimView["below"]): VictimView => ({
  below,
  servedMs: () => 0,
  hotBits: 0n,
});

test("nobody who promises nothing is ever asked", () => {
  const draw = drawing((bound) => bound - 1);
  expect(chooseVictim([peer("a", 0), peer("b", undefined)], draw)).toBeUndefined();
  expect(chooseVictim([peer("a", 0), peer("b", 1), peer("c", 0)], draw)?.name).toBe("b");
});

test("of two drawn, the one with more to give is asked", () => {
  const peers = [peer("a", 1), peer("b", 9), peer("c", 5)];
  const each = (...numbers: number[]) => drawing(() => numbers.shift() ?? 0);
  expect(chooseVictim(peers, each(0, 0))?.name).toBe("b");
  expect(chooseVictim(peers, each(0, 1))?.name).toBe("c");
  expect(chooseVictim(peers, each(1, 0))?.name).toBe("b");
});

test("an owner that had less of this node's time goes before one with more to give", () => {
  const peers = [peer("giant", 900), peer("small", 1)];
  const view = { ...drawing(() => 0), servedMs: (id: string) => (id === "giant" ? 2000 : 0) };
  expect(chooseVictim(peers, view)?.name).toBe("small");
  expect(
    chooseVictim(
      peers,
      drawing(() => 0),
    )?.name,
  ).toBe("giant");
});

test("of two equal owners, the one whose large inputs lie here already is asked", () => {
  const hot = peer("hot", 3);
  const near = { ...hot, load: hot.load && { ...hot.load, hot: 0b1010n } };
  const view = { ...drawing(() => 0), hotBits: 0b1110n };
  expect(chooseVictim([peer("cold", 5), near], view)?.name).toBe("hot");
});

test("every strategy asks somebody who promises work, and those for comparison whom they say", () => {
  const peers = [peer("a", 4), peer("b", 1), peer("c", 9), peer("none", 0)];
  const chosen = strategies.map((strategy) => [
    strategy,
    chooseVictim(
      peers,
      drawing(() => 0),
      strategy,
    )?.name,
  ]);
  expect(Object.fromEntries(chosen)).toEqual({
    "power-of-two": "a",
    random: "a",
    "least-loaded": "b",
    "most-loaded": "c",
    adaptive: "c",
  });
});
