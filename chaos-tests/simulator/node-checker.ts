/**
 * Invariants of what a node holds and for how long: bounds, leftovers, cancelled work, and whether
 * everybody sees the same mesh. It knows tasks only by their names.
 */
import { recordsDefaults } from "../../src/action/records.ts";
import type { TaskId } from "../../src/base/ids.ts";
import { roomPrefix } from "../../src/exec/sandbox/room.ts";
import type { Torment } from "./faults.ts";
import type { LeaseChecker } from "./lease-checker.ts";
import type { SimMesh, SimNode } from "./mesh.ts";
import type { Violations } from "./violations.ts";
import { isSettled, type Job } from "./workload.ts";

export interface NodeChecker {
  /** Cancelled work ends. */
  compare(jobs: readonly Job[]): void;
  /** Nothing grows beyond its bound. */
  bounds(): void;
  /** At rest: everybody agrees, and nothing runs. */
  rest(): void;
  /** Ends a node as SIGTERM does and looks at what it leaves. Never rejects. */
  end(node: SimNode): Promise<void>;
}

/** From a cancel until nothing of it runs any more: a beat, a round trip and some time to spare. */
const cancelMaxMs = 1500;
/** From SIGTERM until a node is gone. */
const endMaxMs = 30_000;

export function createNodeChecker(
  mesh: SimMesh,
  { say }: Violations,
  leases: Pick<LeaseChecker, "lineOf">,
  torment: Pick<Torment, "stillSinceMs" | "calmSinceMs">,
): NodeChecker {
  const { simulation } = mesh;
  /** What runs at thieves right now: `node life task`. */
  const runs = new Map<string, { readonly node: SimNode; readonly task: TaskId }>();

  /** A task that runs though its owner has long called it off, while nothing keeps it from hearing. */
  function checkCalledOff(node: SimNode, task: TaskId): void {
    const line = leases.lineOf(task);
    const calmMs = torment.calmSinceMs();
    if (line?.at !== "over" || calmMs === undefined || mesh.find(node.name) !== node) return;
    if (simulation.nowMs() - Math.max(line.overMs, calmMs) > cancelMaxMs)
      say("cancel", node, `${line.label} runs on though it is over`);
  }

  mesh.onEvent((node, event) => {
    if (event.event !== "foreign-started" && event.event !== "foreign-done") return;
    const key = `${node.name} ${node.life} ${event.task}`;
    if (event.event === "foreign-done") return void runs.delete(key);
    runs.set(key, { node, task: event.task });
    checkCalledOff(node, event.task);
  });

  function checkCancelled(job: Job): void {
    const { node, cancelledAtMs, label } = job;
    if (cancelledAtMs === undefined || isSettled(job) || mesh.find(node.name) !== node) return;
    if (torment.stillSinceMs(node.name) !== undefined || torment.calmSinceMs() === undefined)
      return;
    if (node.host.clock.nowMs() - cancelledAtMs > cancelMaxMs)
      say("cancel", node, `${label} was cancelled, and whoever waits for it still does`);
  }

  function checkBounds(node: SimNode): void {
    const { bytes, quotaBytes } = node.store.stats();
    if (bytes > quotaBytes) say("bounded", node, `its store holds ${bytes} of ${quotaBytes} bytes`);
    const { records, bytes: recordBytes } = node.results.stats();
    if (records > recordsDefaults.recordsMax || recordBytes > recordsDefaults.bytesMax)
      say("bounded", node, `it knows ${records} results in ${recordBytes} bytes`);
    const peers = node.directory.peers();
    if (new Set(peers.map(({ id }) => id)).size !== peers.length)
      say("bounded", node, "a peer is in its directory twice");
    // Every task that runs here or for others has its slot, and each has one command.
    const commands = simulation.running(node.name);
    if (commands > 2 * node.slots.count + 8)
      say("no orphans", node, `${commands} commands on ${node.slots.count} slots`);
  }

  /** What others believe of it is what it says of itself. */
  function checkAgreement(node: SimNode): void {
    for (const { id, name, slots, load } of node.directory.peers()) {
      const peer = mesh.nodes().find(({ self }) => self === id);
      if (peer === undefined)
        say("convergence", node, `${name} is in its directory and is no more`);
      else if (name !== peer.name || slots !== peer.slots.count)
        say("convergence", node, `it takes ${peer.name} for ${name} with ${slots} slots`);
      else if (load !== undefined && load.stealable !== peer.owner.load().stealable)
        say("convergence", node, `it still hopes for ${load.stealable} tasks of ${name}`);
    }
  }

  function roomsOf(node: SimNode): readonly string[] {
    const folder = simulation.disk(node.name).files.find("/data/tmp", true);
    if (folder?.kind !== "directory") return [];
    return [...folder.entries.keys()].filter((name) => name.startsWith(roomPrefix));
  }

  return {
    compare(jobs) {
      for (const { node, task } of runs.values()) checkCalledOff(node, task);
      for (const job of jobs) checkCancelled(job);
    },
    bounds() {
      for (const node of mesh.nodes()) checkBounds(node);
    },
    rest() {
      for (const node of mesh.nodes()) {
        checkAgreement(node);
        const commands = simulation.running(node.name);
        if (commands > 0) say("no orphans", node, `${commands} commands still run`);
      }
    },
    async end(node) {
      const startMs = simulation.nowMs();
      await node.closeRooms();
      const { pinned } = node.store.stats();
      if (pinned > 0) say("no leaked pins", node, `${pinned} blobs still pinned`);
      const rooms = roomsOf(node);
      if (rooms.length > 0) say("no orphans", node, `it leaves ${rooms.join(", ")}`);
      await node.end();
      if (simulation.running(node.name) > 0) say("no orphans", node, "a command outlives it");
      const tookMs = simulation.nowMs() - startMs;
      if (tookMs > endMaxMs) say("it ends", node, `that takes ${tookMs.toFixed(0)} ms`);
    },
  };
}
