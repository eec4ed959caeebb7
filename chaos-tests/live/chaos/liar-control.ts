/** The malicious member as the run sees it: told what to do, and held against what the nodes say. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { SeededRandom } from "../../../src/sim/random.ts";
import type { Fleet } from "./fleet.ts";
import type { LieOrder, LieReport } from "./liar.ts";
import { lies } from "./lies.ts";

export interface LieCount {
  readonly told: number;
  /** Nodes that heard it, all times together. */
  readonly met: number;
  /** Of these, the nodes that turned it away for it. */
  readonly refused: number;
  readonly taken: number;
}

export interface Liar {
  /** Tells one lie to all nodes for a while, unless one is being told. Gives its name. */
  lie(random: SeededRandom): Promise<string | undefined>;
  /** Resolves when nothing is being told any more. */
  quiet(): Promise<void>;
  /** What came of each, by what the liar and the nodes said. */
  counts(): ReadonlyMap<string, LieCount>;
  /** Lies for which nodes have to turn a peer away, or to name it, and did not, though heard. */
  unpunished(): readonly string[];
  readonly child: ChildProcess;
  close(): Promise<void>;
}

const lieMinMs = 4_000;
const lieMaxMs = 9_000;
/** One node that was dying when it heard it proves nothing. */
const witnessesMin = 3;

export function startLiarProcess(fleet: Fleet, folder: string): Liar {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, "liar.ts"), fleet.invite],
    // In its environment for the search for what is left over.
    { stdio: ["pipe", "pipe", "ignore"], env: { ...process.env, MESH_CHAOS: folder } },
  );
  const reports: LieReport[] = [];
  const names = Object.keys(lies);
  let next: string[] = [];
  let telling: Promise<void> | undefined;
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const told: (() => void)[] = [];
  createInterface(child.stdout).on("line", (line) => {
    reports.push(JSON.parse(line) as LieReport);
    told.shift()?.();
  });
  child.stdin.on("error", () => {});
  void exited.then(() => {
    for (const resolve of told) resolve();
  });

  const refusals = (): ReadonlyMap<string, number> => {
    const counts = new Map<string, number>();
    for (const { lives } of fleet.members) {
      const peers = new Set<string>();
      for (const { events } of lives()) {
        for (const { event, peer } of events) if (event === "peer-refused") peers.add(String(peer));
      }
      for (const peer of peers) counts.set(peer, (counts.get(peer) ?? 0) + 1);
    }
    return counts;
  };

  function counts(): ReadonlyMap<string, LieCount> {
    const refusedBy = refusals();
    const found = new Map<string, LieCount>();
    for (const { lie, peerId, met, taken } of reports) {
      const before = found.get(lie) ?? { told: 0, met: 0, refused: 0, taken: 0 };
      found.set(lie, {
        told: before.told + 1,
        met: before.met + met.length,
        refused: before.refused + (refusedBy.get(peerId) ?? 0),
        taken: before.taken + taken,
      });
    }
    return found;
  }

  return {
    child,
    counts,
    async lie(random) {
      if (telling !== undefined || child.exitCode !== null) return undefined;
      // Each once, in an order from the seed, before any comes again.
      if (next.length === 0) next = [...names];
      const [lie = ""] = next.splice(random.below(next.length), 1);
      const addrs = fleet.members.flatMap((member) => member.node()?.addrs[0] ?? []);
      const drawnMs = Math.round(random.between(lieMinMs, lieMaxMs));
      const forMs = Math.max(drawnMs, lies[lie]?.minMs ?? 0);
      const order: LieOrder = { lie, addrs, forMs };
      child.stdin.write(`${JSON.stringify(order)}\n`);
      telling = new Promise<void>((resolve) => told.push(resolve)).then(() => {
        telling = undefined;
      });
      return `${lie} for ${(forMs / 1000).toFixed(1)} s`;
    },
    async quiet() {
      await telling;
    },
    unpunished() {
      const all = counts();
      const unheard = [...all]
        .filter(([lie, { met, refused }]) => {
          return lies[lie]?.end === "refused" && met >= witnessesMin && refused === 0;
        })
        .map(([lie, { met }]) => `${lie}: ${met} nodes heard it, and none turned the liar away`);
      const phantoms = all.get("steal-phantom")?.taken ?? 0;
      const isTold = fleet.members
        .flatMap(({ lives }) => lives().flatMap(({ events }) => events))
        .some(
          ({ event, message }) => event === "log" && / sent wrong bytes /.test(String(message)),
        );
      if (phantoms < witnessesMin || isTold) return unheard;
      return [
        ...unheard,
        `steal-phantom: ${phantoms} tasks taken, and nobody said who sent wrong bytes`,
      ];
    },
    async close() {
      child.stdin.end();
      child.kill("SIGKILL");
      await exited;
    },
  };
}
