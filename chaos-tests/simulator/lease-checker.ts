/**
 * Invariants of leases: who holds which task, in which attempt, and how that ends.
 *
 * A ledger of its own follows every task of every owner by its events; wherever it and the owner
 * disagree, one of them is wrong. What `src/work` means by a lease is here and nowhere else.
 */
import type { MeshEvent } from "../../src/base/events.ts";
import type { PeerId, TaskId } from "../../src/base/ids.ts";
import { nodeDefaults } from "../../src/node/node.ts";
import { peerIdOf } from "../../src/sim/station.ts";
import { failuresMax } from "../../src/work/lease.ts";
import type { Torment } from "./faults.ts";
import type { SimMesh, SimNode } from "./mesh.ts";
import type { Violations } from "./violations.ts";
import type { Job } from "./workload.ts";

/** A task as its owner's events tell it. */
export interface Line {
  readonly label: string;
  at: "queued" | "here" | "leased" | "over";
  attempt: number;
  /** Attempts that hold a lease: one, or two while a backup runs. */
  readonly holders: Map<number, { readonly peer: PeerId; readonly startedMs: number }>;
  readonly stealable: boolean;
  /** When it was done or cancelled. */
  overMs: number;
  starts: number;
  backups: number;
  requeues: number;
  /** Peers that ended it without an answer, or with one that could not be used. */
  failures: number;
  /** A peer said that the command fails: only a run here decides. */
  isAccused: boolean;
}

export interface LeaseChecker {
  /** The latest line of that label at the job's owner. */
  lineNamed(job: Job): Line | undefined;
  /** A task of whatever owner, dead ones too. */
  lineOf(task: TaskId): Line | undefined;
  /** Tasks started anew because a peer failed at them, over all owners that lived. */
  requeues(): number;
  /** A peer's answer is being put in place. */
  committing(job: Job, peer: PeerId): void;
  runningHere(job: Job): void;
  /** The ledger against what the nodes say of themselves. */
  compare(): void;
  /** Nobody idles beside work. Call every so often while nothing is wrong with the mesh. */
  awake(): void;
  /** Nothing is held by anybody, and the sums are right. */
  rest(): void;
}

/** A lease, and what passes until its end is looked for. */
const leaseMaxMs = nodeDefaults.leaseMs + 500;
/** Longest that an idle node may sleep while a peer it is connected to has work to give. */
const idleMaxMs = 5000;
/** Runs beyond one a task that no fault explains, as a share of the tasks. */
const speculationShare = 0.1;

export function createLeaseChecker(
  mesh: SimMesh,
  { say }: Violations,
  { stillSinceMs, silentSinceMs, fired }: Pick<Torment, "stillSinceMs" | "silentSinceMs" | "fired">,
): LeaseChecker {
  const { simulation } = mesh;
  const ledgers = new Map<SimNode, Map<TaskId, Line>>();
  const lines = new Map<TaskId, Line>();
  /** `task peer`, for every grant there ever was. */
  const grants = new Set<string>();
  const steals = { given: 0, done: 0, returned: 0, dropped: 0 };
  const idleSinceMs = new Map<string, number>();
  const awakeSinceMs = new Map<SimNode, number>();
  const totals = { requeues: 0, returned: 0, runs: 0 };

  function ledgerOf(node: SimNode): Map<TaskId, Line> {
    const known = ledgers.get(node) ?? new Map<TaskId, Line>();
    ledgers.set(node, known);
    return known;
  }

  function lineOf(node: SimNode, task: TaskId, event: string): Line | undefined {
    const line = ledgerOf(node).get(task);
    if (line === undefined) say("no phantom", node, `${event} of ${task}, which was never queued`);
    return line;
  }

  function isOver(node: SimNode, line: Line, what: string): boolean {
    if (line.at === "over") say("one end", node, `${what} of ${line.label}, which is over`);
    return line.at === "over";
  }

  function begin(node: SimNode, event: MeshEvent & { readonly event: "task-queued" }): void {
    if (lines.has(event.task)) say("no phantom", node, `${event.task} is queued twice`);
    const line: Line = {
      label: event.label,
      stealable: event.stealable,
      at: "queued",
      attempt: 0,
      holders: new Map(),
      overMs: 0,
      starts: 0,
      backups: 0,
      requeues: 0,
      failures: 0,
      isAccused: false,
    };
    ledgerOf(node).set(event.task, line);
    lines.set(event.task, line);
  }

  function started(node: SimNode, event: MeshEvent & { readonly event: "task-started" }): void {
    const { task, peer, attempt, backup } = event;
    const line = lineOf(node, task, "a start");
    if (line === undefined || isOver(node, line, "a start")) return;
    const isDue = backup ? line.at === "leased" && line.holders.size === 1 : line.at === "queued";
    if (!isDue) say("one holder", node, `${line.label} starts while it is ${line.at}`);
    const due = line.attempt + (peer === undefined ? 0 : 1);
    if (attempt !== due) say("attempts grow", node, `${line.label}: ${attempt} instead of ${due}`);
    Object.assign(line, { at: peer === undefined ? "here" : "leased", attempt });
    if (peer !== undefined) line.holders.set(attempt, { peer, startedMs: simulation.nowMs() });
    line.starts += 1;
    if (backup) line.backups += 1;
    const isTried = peer !== undefined && line.failures >= failuresMax;
    if (line.starts - line.backups > line.requeues + 1 || isTried)
      say("work bound", node, `${line.label} starts for the ${line.starts}th time`);
    if (peer === undefined) {
      totals.runs += 1;
      return;
    }
    if (line.isAccused) say("work bound", node, `${line.label} leaves again, though it failed`);
    steals.given += 1;
    grants.add(`${task} ${peer}`);
  }

  /** An attempt of that peer is over. */
  function leave(
    node: SimNode,
    line: Line,
    { peer, attempt, reason }: { peer: PeerId; attempt: number; reason: string },
  ): void {
    if (line.holders.get(attempt)?.peer !== peer)
      say("fencing", node, `${line.label} comes back from ${peer}, who does not hold it`);
    line.holders.delete(attempt);
    steals.returned += 1;
    // All these say that nobody failed, or that the task does.
    if (!/^(cancelled|deadline|refused): |^recalled|^another attempt|^remote exit/.test(reason))
      line.failures += 1;
  }

  function released(node: SimNode, event: MeshEvent & { readonly event: "task-released" }): void {
    const line = lineOf(node, event.task, "a release");
    if (line === undefined || isOver(node, line, "a release")) return;
    leave(node, line, event);
    if (!/^another attempt/.test(event.reason)) totals.returned += 1;
  }

  function requeued(node: SimNode, event: MeshEvent & { readonly event: "task-requeued" }): void {
    const line = lineOf(node, event.task, "a requeue");
    if (line === undefined || isOver(node, line, "a requeue")) return;
    leave(node, line, event);
    if (line.holders.size > 0)
      say("one holder", node, `${line.label} is queued again while another attempt holds it`);
    line.at = "queued";
    line.requeues += 1;
    totals.returned += 1;
    if (/^remote exit/.test(event.reason)) line.isAccused = true;
    // A task that fails by itself comes home, and a thief's own work goes first, in any weather.
    if (!/^(remote exit|cancelled: |refused: |recalled)/.test(event.reason)) totals.requeues += 1;
  }

  function ended(line: Line, how: "done" | "dropped"): void {
    if (line.at === "leased") steals[how] += line.holders.size;
    line.holders.clear();
    Object.assign(line, { at: "over", overMs: simulation.nowMs() });
  }

  function finished(node: SimNode, event: MeshEvent & { readonly event: "task-done" }): void {
    const line = lineOf(node, event.task, "the end");
    if (line === undefined || isOver(node, line, "a second end")) return;
    // A backup that its own node has run counts as done here.
    const holder = event.peer ?? node.self;
    const isHere = event.source === "here" && line.at === "here";
    if (!isHere && ![...line.holders.values()].some(({ peer }) => peer === holder)) {
      const who = event.peer ?? "its owner";
      say("fencing", node, `${line.label} is done by ${who}, who does not hold it`);
    }
    ended(line, "done");
  }

  mesh.onEvent((node, event) => {
    switch (event.event) {
      case "task-queued":
        return begin(node, event);
      case "task-started":
        return started(node, event);
      case "task-requeued":
        return requeued(node, event);
      case "task-released":
        return released(node, event);
      case "task-done":
        return finished(node, event);
      case "task-cancelled": {
        const line = lineOf(node, event.task, "a cancel");
        if (line !== undefined && !isOver(node, line, "a cancel")) ended(line, "dropped");
        return;
      }
      case "foreign-started": {
        totals.runs += 1;
        if (!grants.has(`${event.task} ${node.self}`))
          say("conservation of steals", node, `it runs ${event.task}, which nobody gave it`);
        return;
      }
      case "foreign-done": {
        const line = lines.get(event.task);
        if (event.outcome === "accepted" && line !== undefined && line.at !== "over")
          say("conservation of steals", node, `${line.label} was taken from it and is not over`);
        return;
      }
    }
  });

  function lineNamed(job: Job): Line | undefined {
    return [...ledgerOf(job.node).values()].findLast(({ label }) => label === job.label);
  }

  /** Nobody waits for a thief that is dead or stopped, unless the owner itself was. */
  function compareLeases(node: SimNode, leased: readonly Line[]): void {
    const nowMs = simulation.nowMs();
    if (stillSinceMs(node.name) !== undefined) awakeSinceMs.delete(node);
    else if (!awakeSinceMs.has(node)) awakeSinceMs.set(node, nowMs);
    const awakeMs = awakeSinceMs.get(node) ?? nowMs;
    const committing = node.owner.counts().committing;
    const late = leased.flatMap(({ label, holders }) =>
      [...holders.values()].flatMap(({ peer, startedMs }) => {
        const silentMs = silentSinceMs(nameOf(peer));
        if (silentMs === undefined) return [];
        const waitedMs = nowMs - Math.max(silentMs, awakeMs, startedMs);
        return waitedMs > leaseMaxMs ? [`${label} waits for ${peer}, which is still`] : [];
      }),
    );
    // An answer that came in time is put in place for as long as that takes.
    if (late.length > committing) say("bounded recovery", node, late[0] ?? "");
  }

  function compareNode(node: SimNode): void {
    const counts = node.owner.counts();
    const known = { queued: 0, here: 0, leased: 0, over: 0 };
    const leased: Line[] = [];
    for (const line of ledgerOf(node).values()) {
      known[line.at] += 1;
      if (line.at === "leased") leased.push(line);
    }
    const pairs = [
      ["queued", counts.queued, known.queued],
      ["here", counts.here, known.here],
      ["leased", counts.leased + counts.committing, known.leased],
      ["in the deque", node.owner.load().queued, known.queued],
    ] as const;
    for (const [what, said, ledger] of pairs)
      if (said !== ledger)
        say("conservation", node, `it has ${said} tasks ${what}, the ledger ${ledger}`);
    compareLeases(node, leased);
    const { busy, count } = node.slots;
    if (busy < 0 || busy > count) say("slots", node, `${busy} of ${count} busy`);
    if (busy < counts.here) say("slots", node, `${counts.here} run here on ${busy} slots`);
    // What it runs, one ahead, what it has just run, and answers that its owners have not taken.
    if (node.thief.held() > 2 * count + 257)
      say("bounded", node, `it holds ${node.thief.held()} foreign tasks on ${count} slots`);
  }

  /** For longer than `idleMaxMs`, as far as anybody has looked. */
  function isLong(key: string, isNow: boolean): boolean {
    if (!isNow) {
      idleSinceMs.delete(key);
      return false;
    }
    const sinceMs = idleSinceMs.get(key) ?? simulation.nowMs();
    idleSinceMs.set(key, sinceMs);
    if (simulation.nowMs() - sinceMs <= idleMaxMs) return false;
    idleSinceMs.delete(key);
    return true;
  }

  return {
    lineNamed,
    lineOf: (task) => lines.get(task),
    requeues: () => totals.requeues,
    committing(job, peer) {
      const line = lineNamed(job);
      if (![...(line?.holders.values() ?? [])].some((holder) => holder.peer === peer))
        say("fencing", job.node, `${peer} answers for ${job.label}, which it does not hold`);
    },
    runningHere(job) {
      if (job.runsHere > 1) say("work bound", job.node, `${job.label} runs here again`);
      if (lineNamed(job)?.at !== "here")
        say("one holder", job.node, `${job.label} runs here while a peer holds it`);
    },
    compare() {
      for (const node of mesh.nodes()) compareNode(node);
    },
    awake() {
      // Tasks that nobody has touched yet: others may be barred from those that look idle.
      const isFresh = (line: Line): boolean =>
        line.at === "queued" && line.stealable && line.requeues === 0;
      const givers = mesh.nodes().filter((node) => [...ledgerOf(node).values()].some(isFresh));
      for (const node of mesh.nodes()) {
        const key = `${node.name} ${node.life}`;
        const { busy, count } = node.slots;
        const isIdle = busy < count && node.thief.held() === 0;
        const giver = givers.find(({ self }) => node.directory.get(self) !== undefined);
        if (isLong(key, isIdle && giver !== undefined && giver !== node))
          say("wake-up", node, `it has slept for 5 s while ${giver?.name} has work to give`);
        if (isLong(`own ${key}`, busy < count && node.owner.counts().queued > 0))
          say("progress", node, "its own tasks wait for 5 s beside a free slot");
      }
    },
    rest() {
      const [first] = mesh.nodes();
      if (first === undefined) return;
      const living = mesh.nodes().flatMap((node) => [...ledgerOf(node).values()]);
      let open = 0;
      for (const { holders } of lines.values()) open += holders.size;
      if (steals.given !== steals.done + steals.returned + steals.dropped + open)
        say("conservation of steals", first, `${JSON.stringify(steals)}, ${open} are still out`);
      if (living.some(({ at }) => at === "leased"))
        say("conservation of steals", first, "a living owner still waits for a thief");
      // A fault may make a task lag behind, and each such task has one backup.
      const struck = [...fired().values()].reduce((sum, times) => sum + times, 0);
      const bound = lines.size * (1 + speculationShare) + totals.returned + struck;
      if (totals.runs > bound)
        say("work bound", first, `${totals.runs} runs of ${lines.size} tasks, bound ${bound}`);
      for (const node of mesh.nodes()) {
        const counts = node.owner.counts();
        const left = counts.queued + counts.here + counts.leased + counts.committing;
        if (left > 0) say("no leaked leases", node, `owner: ${JSON.stringify(counts)}`);
        if (node.thief.held() > 0)
          say("no leaked leases", node, `it still holds ${node.thief.held()} foreign tasks`);
        if (node.slots.busy > 0) say("no leaked slots", node, `${node.slots.busy} still busy`);
      }
    },
  };
}

function nameOf(peer: PeerId): string {
  return peer.slice(peerIdOf("").length);
}
