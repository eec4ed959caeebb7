import { expect, test } from "vitest";
import {
  actionOf,
  forever,
  outcomeOf,
  type ResultNode,
  startNode,
} from "../action/results.contract.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf, hashHexOf } from "../base/digest.ts";
import {
  parseCacheGcReply,
  parseCacheStatsReply,
  parseCacheVerifyReply,
} from "../node/control-replies.ts";
import { createSimulation } from "../sim/simulation.ts";
import { answerCache, cacheChecks, cacheCounters } from "./cache-calls.ts";

interface Asked {
  readonly node: ResultNode;
  ask(what: "stats" | "verify" | "gc"): Promise<object>;
}

/** A node that knows one result, and its bytes. */
async function knowing(run: (asked: Asked) => Promise<void>): Promise<void> {
  const simulation = createSimulation("cache");
  const host = simulation.addHost("n0");
  const story = async (): Promise<void> => {
    const node = await startNode(host);
    node.results.keep(actionOf("a"), await outcomeOf(node.store, "a"), 5);
    const session = { send: () => {}, signal: forever };
    const cache = { store: node.store, results: node.results, clock: host.clock };
    await run({ node, ask: (what) => answerCache(cache, what, session) });
  };
  await simulation.finish(story(), 1e7);
}

test("what is kept is counted, and every answer reads as what it is", () =>
  knowing(async ({ node, ask }) => {
    node.results.find(actionOf("a"));
    const stats = parseCacheStatsReply(await ask("stats"));
    expect(stats).toMatchObject({ records: 1, hitsHere: 1, quarantined: 0, refused: {} });
    expect(stats.blobs).toBeGreaterThan(0);
    expect(cacheCounters(node)).toMatchObject({ knownResults: 1, hitsHere: 1 });
    const verified = parseCacheVerifyReply(await ask("verify"));
    expect(verified).toEqual({
      checked: stats.blobs,
      corrupt: [],
      recordsChecked: 1,
      badRecords: [],
    });
    const collected = parseCacheGcReply(await ask("gc"));
    expect(collected).toMatchObject({ freedBytes: 0, stats: { records: 1 } });
    expect(cacheChecks(node).every(({ ok }) => ok)).toBe(true);
  }));

test("a damaged blob is found, and the result that needs it goes with it", () =>
  knowing(async ({ node, ask }) => {
    const digest = digestOf(utf8("object a"));
    const hex = hashHexOf(digest);
    const path = `/data/blobs/${hex.slice(0, 2)}/${hex.slice(2, 4)}/${hex}`;
    await node.host.disk.remove(path);
    await node.host.disk.writeAtomic(path, utf8("object b"), { mode: 0o555, sync: false });
    const { corrupt, badRecords } = parseCacheVerifyReply(await ask("verify"));
    expect(corrupt).toEqual([digest]);
    expect(badRecords).toMatchObject([{ action: actionOf("a") }]);
    expect(node.results.find(actionOf("a"))).toBeUndefined();
    const [store] = cacheChecks(node);
    expect(store).toMatchObject({ name: "store", level: "warn" });
    expect(store?.message).toMatch(/1 damaged/);
    expect(store?.fix).toMatch(/mesh cache verify/);
  }));

test("whoever goes away ends what was asked", () =>
  knowing(async ({ node }) => {
    const cache = { store: node.store, results: node.results, clock: node.host.clock };
    const gone = AbortSignal.abort(new Error("gone"));
    const session = { send: () => {}, signal: gone };
    await expect(answerCache(cache, "verify", session)).rejects.toThrow("gone");
  }));
