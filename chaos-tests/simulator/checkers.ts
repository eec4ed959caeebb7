/**
 * What must hold in a mesh whatever happens to it, checked from the nodes' own events.
 *
 * A ledger of its own follows every task of every living owner; wherever it and the nodes disagree,
 * one of them is wrong. Violations are collected rather than thrown: the first one is the cause,
 * those behind it often say how.
 */
import { digestOf } from "../../src/base/digest.ts";
import type { MeshEvent } from "../../src/base/events.ts";
import type { PeerId, TaskId } from "../../src/base/ids.ts";
import { nodeDefaults } from "../../src/node/node.ts";
import { peerIdOf } from "../../src/sim/station.ts";
import { failuresMax } from "../../src/work/lease.ts";
import type { Torment } from "./faults.ts";
import type { SimMesh, SimNode } from "./mesh.ts";
import { isSettled, type Job, type Watcher } from "./workload.ts";

export interface Checkers {
  /** What a workload has to tell. */
  readonly watcher: Watcher;
  readonly violations: readonly string[];
  /** Tasks started anew because a peer failed at them, over all owners that lived. */
  requeues(): number;
  starts(): number;
  /** The ledger against what the nodes say of themselves. Cheap enough for every few events. */
  compare(): void;
  /** At rest: every job of a living owner is settled, and nothing is held by anybody. */
  rest(jobs: readonly Job[]): void;
  /** Call every so often while nothing is wrong with the mesh: nobody idles beside work. */
  awake(): void;
  /** Forget what idled: something was wrong, or still is. */
  excuse(): void;
}

/** A lease, and what passes until its end is looked for. */
const leaseMaxMs = nodeDefaults.leaseMs + 500;
/** Longest that an idle node may sleep while a peer it is connected to has work to give. */
const idleMaxMs = 5000;

interface Line {
  readonly label: string;
  at: "queued" | "here" | "leased" | "over";
  attempt: number;
  peer: PeerId | undefined;
  readonly stealable: boolean;
  startedMs: number;
  starts: number;
  requeues: number;
  /** Peers that ended it without an answer, or with one that could not be used. */
  failures: number;
}

export function createCheckers(
  mesh: SimMesh,
  { stillSinceMs, silentSinceMs }: Pick<Torment, "stillSinceMs" | "silentSinceMs">,
): Checkers {
  const { simulation } = mesh;
  const violations: string[] = [];
  const said = new Map<string, number>();
  const ledgers = new Map<SimNode, Map<TaskId, Line>>();
  const idleSinceMs = new Map<string, number>();
  const awakeSinceMs = new Map<SimNode, number>();
  const totals = { requeues: 0, starts: 0 };

  /** At most three of a kind and life: what follows from the first says little. */
  function say(invariant: string, node: SimNode, what: string): void {
    const where = `${node.name} (life ${node.life}): ${invariant}`;
    const times = (said.get(where) ?? 0) + 1;
    said.set(where, times);
    if (times <= 3) violations.push(`${simulation.nowMs().toFixed(1)} ms ${where}: ${what}`);
  }

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

  function started(node: SimNode, line: Line, peer: PeerId | undefined, attempt: number): void {
    if (isOver(node, line, "a start")) return;
    if (line.at !== "queued")
      say("one holder", node, `${line.label} starts while it is ${line.at}`);
    const due = line.attempt + (peer === undefined ? 0 : 1);
    if (attempt !== due) say("attempts grow", node, `${line.label}: ${attempt} instead of ${due}`);
    Object.assign(line, { at: peer === undefined ? "here" : "leased", peer, attempt });
    line.startedMs = simulation.nowMs();
    line.starts += 1;
    totals.starts += 1;
    if (line.starts > line.requeues + 1 || line.failures > failuresMax)
      say("work bound", node, `${line.label} starts for the ${line.starts}th time`);
  }

  mesh.onEvent((node, event: MeshEvent) => {
    switch (event.event) {
      case "task-queued": {
        const ledger = ledgerOf(node);
        if (ledger.has(event.task)) say("no phantom", node, `${event.task} is queued twice`);
        ledger.set(event.task, {
          label: event.label,
          stealable: event.stealable,
          at: "queued",
          attempt: 0,
          peer: undefined,
          startedMs: 0,
          starts: 0,
          requeues: 0,
          failures: 0,
        });
        return;
      }
      case "task-started": {
        const line = lineOf(node, event.task, "a start");
        if (line !== undefined) started(node, line, event.peer, event.attempt);
        return;
      }
      case "task-requeued": {
        const line = lineOf(node, event.task, "a requeue");
        if (line === undefined || isOver(node, line, "a requeue")) return;
        if (line.at !== "leased" || line.peer !== event.peer || line.attempt !== event.attempt)
          say("fencing", node, `${line.label} comes back from ${event.peer}, who does not hold it`);
        Object.assign(line, { at: "queued", peer: undefined });
        line.requeues += 1;
        // These two say that the thief never got to it, which is nobody's failure.
        if (!/^(cancelled|deadline): /.test(event.reason)) line.failures += 1;
        // A task that fails by itself comes home, and a thief's own work goes first, in any weather.
        if (!/^(remote exit|cancelled: )/.test(event.reason)) totals.requeues += 1;
        return;
      }
      case "task-done": {
        const line = lineOf(node, event.task, "the end");
        if (line === undefined || isOver(node, line, "a second end")) return;
        const due = event.source === "here" ? "here" : "leased";
        if (line.at !== due || line.peer !== event.peer)
          say(
            "fencing",
            node,
            `${line.label} is done by ${event.peer ?? "its owner"}, who does not hold it`,
          );
        line.at = "over";
        return;
      }
      case "task-cancelled": {
        const line = lineOf(node, event.task, "a cancel");
        if (line !== undefined && !isOver(node, line, "a cancel")) line.at = "over";
        return;
      }
    }
  });

  function lineNamed(job: Job): Line | undefined {
    return [...ledgerOf(job.node).values()].findLast(({ label }) => label === job.label);
  }

  const watcher: Watcher = {
    onCommit(job, peer) {
      const line = lineNamed(job);
      if (line?.at !== "leased" || line.peer !== peer)
        say(
          "fencing",
          job.node,
          `the answer of ${peer} for ${job.label} is taken, who does not hold it`,
        );
    },
    onCommitted(job, peer) {
      if (job.commits > 1 || isSettled(job))
        say("one commit", job.node, `${job.label} is put in place again, by ${peer}`);
    },
    onRunHere(job) {
      if (job.runsHere > 1) say("work bound", job.node, `${job.label} runs here again`);
      if (job.cancelledAtMs !== undefined)
        say("cancel", job.node, `${job.label} starts after it was cancelled`);
      if (lineNamed(job)?.at !== "here")
        say("one holder", job.node, `${job.label} runs here while a peer holds it`);
    },
    onWrongBytes(job, peer) {
      say("no wrong artifact", job.node, `${peer} gave wrong bytes for ${job.label}`);
    },
    onWrongResult(job, signer) {
      say("no wrong result", job.node, `${signer} signed a wrong one of ${job.label}`);
    },
  };

  /** Nobody waits for a thief that is dead or stopped, unless the owner itself was. */
  function compareLeases(node: SimNode, lines: readonly Line[]): void {
    const nowMs = simulation.nowMs();
    if (stillSinceMs(node.name) !== undefined) awakeSinceMs.delete(node);
    else if (!awakeSinceMs.has(node)) awakeSinceMs.set(node, nowMs);
    const awakeMs = awakeSinceMs.get(node) ?? nowMs;
    const committing = node.owner.counts().committing;
    const late = lines.filter(({ at, peer, startedMs }) => {
      const name = mesh.names.find((known) => at === "leased" && peer === peerIdOf(known));
      const silentMs = name === undefined ? undefined : silentSinceMs(name);
      return silentMs !== undefined && nowMs - Math.max(silentMs, awakeMs, startedMs) > leaseMaxMs;
    });
    // An answer that came in time is put in place for as long as that takes.
    if (late.length > committing)
      say("bounded recovery", node, `${late[0]?.label} waits for ${late[0]?.peer}, which is still`);
  }

  function compareNode(node: SimNode): void {
    const counts = node.owner.counts();
    const lines = [...ledgerOf(node).values()];
    const known = (at: Line["at"]): number => lines.filter((line) => line.at === at).length;
    const pairs = [
      ["queued", counts.queued, known("queued")],
      ["here", counts.here, known("here")],
      ["leased", counts.leased + counts.committing, known("leased")],
      ["in the deque", node.owner.load().queued, known("queued")],
    ] as const;
    for (const [what, own, ledger] of pairs)
      if (own !== ledger)
        say("conservation", node, `it has ${own} tasks ${what}, the ledger ${ledger}`);
    compareLeases(node, lines);
    const { busy, count } = node.slots;
    if (busy < 0 || busy > count) say("slots", node, `${busy} of ${count} busy`);
    if (busy < counts.here) say("slots", node, `${counts.here} run here on ${busy} slots`);
    // What it runs, one ahead, what it has just run, and answers that its owners have not taken.
    if (node.thief.held() > 2 * count + 65)
      say("bounded", node, `it holds ${node.thief.held()} foreign tasks on ${count} slots`);
  }

  function restOf(node: SimNode): void {
    const counts = node.owner.counts();
    const left = counts.queued + counts.here + counts.leased + counts.committing;
    if (left > 0) say("no leaked leases", node, `owner: ${JSON.stringify(counts)}`);
    if (node.thief.held() > 0)
      say("no leaked leases", node, `it still holds ${node.thief.held()} foreign tasks`);
    if (node.slots.busy > 0) say("no leaked slots", node, `${node.slots.busy} still busy`);
    const { pinned } = node.store.stats();
    if (pinned > 0) say("no leaked pins", node, `${pinned} blobs still pinned`);
  }

  /** Also what nobody has asked for again is byte for byte what the action gives. */
  function resultOf(node: SimNode, { action, expected, label }: Job): void {
    const known = node.results.find(action);
    const [output, ...more] = known?.outcome.outputs ?? [];
    if (known === undefined) return;
    if (output?.digest !== digestOf(expected) || more.length > 0)
      say("no wrong result", node, `it knows a wrong one of ${label}, signed by ${known.signer}`);
  }

  return {
    watcher,
    violations,
    requeues: () => totals.requeues,
    starts: () => totals.starts,
    compare() {
      for (const node of mesh.nodes()) compareNode(node);
    },
    rest(jobs) {
      const alive = new Set(mesh.nodes());
      for (const job of jobs) {
        if (!alive.has(job.node)) continue;
        if (!isSettled(job)) say("no lost task", job.node, `${job.label} is never settled`);
        else if (job.failure !== undefined && job.cancelledAtMs === undefined)
          say("no lost task", job.node, `${job.label} fails: ${String(job.failure)}`);
        if (job.outcome !== undefined && job.outcome.exitCode !== (job.order.exitCode ?? 0))
          say("no wrong artifact", job.node, `${job.label} exits with ${job.outcome.exitCode}`);
        if (job.outcome?.source === "there" && job.commits !== 1)
          say("one commit", job.node, `${job.label} is done there with ${job.commits} commits`);
      }
      for (const node of alive) {
        restOf(node);
        for (const job of jobs) resultOf(node, job);
      }
    },
    awake() {
      // Tasks that nobody has touched yet: others may be barred from those that look idle.
      const isFresh = (line: Line): boolean =>
        line.at === "queued" && line.stealable && line.requeues === 0;
      const givers = mesh.nodes().filter((node) => [...ledgerOf(node).values()].some(isFresh));
      for (const node of mesh.nodes()) {
        const key = `${node.name} ${node.life}`;
        const isIdle = node.slots.busy < node.slots.count && node.thief.held() === 0;
        const giver = givers.find(({ self }) => node.directory.get(self) !== undefined);
        if (!isIdle || giver === undefined || giver === node) {
          idleSinceMs.delete(key);
          continue;
        }
        const sinceMs = idleSinceMs.get(key) ?? simulation.nowMs();
        idleSinceMs.set(key, sinceMs);
        if (simulation.nowMs() - sinceMs <= idleMaxMs) continue;
        say("wake-up", node, `it has slept for 5 s while ${giver.name} has work to give`);
        idleSinceMs.delete(key);
      }
    },
    excuse: () => idleSinceMs.clear(),
  };
}
