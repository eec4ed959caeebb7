import { expect, test } from "vitest";
import { asPeerId } from "../base/ids.ts";
import type { Peer } from "../peer/directory.ts";
import { chooseVictim } from "./victim.ts";

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
      : { queued: stealable, stealable, slots: 1, busy: 1, atMs: 0 },
  rttMs: undefined,
});

test("nobody who promises nothing is ever asked", () => {
  const draw = (bound: number) => bound - 1;
  expect(chooseVictim([peer("a", 0), peer("b", undefined)], draw)).toBeUndefined();
  expect(chooseVictim([peer("a", 0), peer("b", 1), peer("c", 0)], draw)?.name).toBe("b");
});

test("of two drawn, the one with more to give is asked", () => {
  const peers = [peer("a", 1), peer("b", 9), peer("c", 5)];
  const drawing =
    (...numbers: number[]) =>
    () =>
      numbers.shift() ?? 0;
  expect(chooseVictim(peers, drawing(0, 0))?.name).toBe("b");
  expect(chooseVictim(peers, drawing(0, 1))?.name).toBe("c");
  expect(chooseVictim(peers, drawing(1, 0))?.name).toBe("b");
});
