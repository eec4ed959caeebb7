/**
 * What must hold in a mesh whatever happens to it, checked from the nodes' own events, from what
 * they say of themselves and from their disks. Which invariant is checked where: README.md.
 */
import type { DagRun } from "./dag.ts";
import type { Torment } from "./faults.ts";
import { createFileChecker } from "./file-checker.ts";
import { createLeaseChecker } from "./lease-checker.ts";
import type { SimMesh, SimNode } from "./mesh.ts";
import { createNodeChecker } from "./node-checker.ts";
import { createViolations, type Violations } from "./violations.ts";
import { isOver, type WordJob } from "./wordcount.ts";
import { isSettled, type Job, type Watcher } from "./workload.ts";

export interface Checkers {
  /** What a workload has to tell. */
  readonly watcher: Watcher;
  readonly violations: readonly string[];
  readonly say: Violations["say"];
  /** Tasks started anew because a peer failed at them, over all owners that lived. */
  requeues(): number;
  /** Cheap enough for every few events. */
  compare(): void;
  /** Before a fault, and before what it breaks is forgiven. */
  whole(): void;
  forgive(): void;
  /** Call every so often while nothing is wrong with the mesh: nobody idles beside work. */
  awake(): void;
  /** At rest: every job of a living owner is settled, and nothing is held by anybody. */
  rest(dags: readonly DagRun[], wordJobs: readonly WordJob[]): void;
  /** Last of all: ends every node. */
  end(): Promise<void>;
}

/** Files and bounds are looked at with every so manieth comparison: there are many of them. */
const thoroughEvery = 5;

export type Conditions = Pick<Torment, "stillSinceMs" | "silentSinceMs" | "calmSinceMs" | "fired">;

export function createCheckers(mesh: SimMesh, conditions: Conditions): Checkers {
  const violations = createViolations(mesh);
  const { say } = violations;
  const leases = createLeaseChecker(mesh, violations, conditions);
  const files = createFileChecker(mesh, violations);
  const holdings = createNodeChecker(mesh, violations, leases, conditions);
  const jobs: Job[] = [];
  const named = new Map<string, Job>();
  let looks = 0;
  const isAlive = (node: SimNode): boolean => mesh.find(node.name) === node;

  mesh.onEvent((node, event) => {
    if (event.event !== "task-started") return;
    const job = named.get(`${node.name} ${leases.lineOf(event.task)?.label}`);
    if (job !== undefined) files.starting(job);
  });

  const watcher: Watcher = {
    onSubmit(job) {
      jobs.push(job);
      named.set(`${job.node.name} ${job.label}`, job);
    },
    onCommit(job, peer) {
      if (isAlive(job.node)) leases.committing(job, peer);
    },
    onCommitted(job, peer) {
      if (job.commits > 1 || isSettled(job))
        say("one commit", job.node, `${job.label} is put in place again, by ${peer}`);
    },
    onRunHere(job) {
      if (!isAlive(job.node)) return;
      leases.runningHere(job);
      if (job.cancelledAtMs !== undefined)
        say("cancel", job.node, `${job.label} starts after it was cancelled`);
    },
    onWrongBytes(job, peer) {
      say("no wrong artifact", job.node, `${peer} gave wrong bytes for ${job.label}`);
    },
    onWrongResult(job, signer) {
      say("cache poisoning", job.node, `${signer} signed a wrong one of ${job.label}`);
    },
  };

  function restOf(job: Job): void {
    const { node, label, failure, outcome, order } = job;
    if (!isSettled(job)) say("no lost task", node, `${label} is never settled`);
    else if (failure !== undefined && job.cancelledAtMs === undefined)
      say("no lost task", node, `${label} fails: ${String(failure)}`);
    if (outcome !== undefined && outcome.exitCode !== (order.exitCode ?? 0))
      say("no wrong artifact", node, `${label} exits with ${outcome.exitCode}`);
    if (outcome?.source === "there" && job.commits !== 1)
      say("one commit", node, `${label} is done there with ${job.commits} commits`);
  }

  function restOfWords(job: WordJob): void {
    const { node, label, result, failure, expected } = job;
    if (!isOver(job)) say("no lost task", node, `${label} is never over`);
    if (failure !== undefined && job.cancelledAtMs === undefined)
      say("no lost task", node, `${label} fails: ${String(failure)}`);
    if (result !== undefined && Buffer.compare(result.output, expected) !== 0)
      say("no wrong artifact", node, `${label} counts other words than the module does`);
  }

  return {
    watcher,
    violations: violations.lines,
    say,
    requeues: leases.requeues,
    compare() {
      leases.compare();
      holdings.compare(jobs);
      looks += 1;
      if (looks % thoroughEvery !== 0) return;
      files.whole(jobs);
      holdings.bounds();
    },
    whole: () => files.whole(jobs),
    forgive: files.forgive,
    awake: leases.awake,
    rest(dags, wordJobs) {
      for (const dag of dags)
        if (isAlive(dag.node) && !dag.isDone() && !dag.isBroken())
          say("no lost task", dag.node, "a graph of tasks stops in the middle");
      for (const job of jobs) if (isAlive(job.node)) restOf(job);
      for (const job of wordJobs) if (isAlive(job.node)) restOfWords(job);
      leases.rest();
      files.rest(jobs);
      files.whole(jobs);
      holdings.rest();
    },
    async end() {
      await Promise.all(mesh.nodes().map((node) => holdings.end(node)));
    },
  };
}
