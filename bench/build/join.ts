/**
 * From `mesh-node join INVITE` on a new machine to its first stolen task, while a member builds.
 *
 * Every join is a fresh process with a fresh data directory: a new identity, no shim yet, and none
 * of the compiler in its store. The member has one slot and an endless supply of C++ to compile.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join as joinPath } from "node:path";
import { createWorld, type LiveNode } from "../../chaos-tests/live/nodes.ts";
import { atMost, type Bench, type Row, rowOf } from "../bench.ts";
import { program } from "../command.ts";
import { cxxProject } from "../projects.ts";

const runsDefault = 5;
const jobs = 6;
const cxxFiles = 38;
const joinMaxMs = 5_000;
const waitMaxMs = 30_000;
const lookEveryMs = 4;

export const join: Bench = {
  name: "join",
  about:
    "join INVITE to the first stolen task, fresh data directory each, against node start alone",
  async run({ runs = runsDefault, say, signal }) {
    const world = await createWorld();
    let building: Building | undefined;
    try {
      const project = await cxxProject(world.folder, "-O2", cxxFiles, signal);
      const member = await world.start({ slots: 1 });
      building = keepBuilding(member, project.dir);
      const samples: Phases[] = [];
      for (let run = 1; run <= runs; run += 1) {
        signal.throwIfAborted();
        const dataDir = joinPath(world.folder, `joined-${run}`);
        const [joined, phases] = await watchJoin(member, () =>
          world.start({ slots: 1, invite: member.invite, dataDir }),
        );
        say(`join ${run} of ${runs}: ${Math.round(phases.runningMs)} ms`);
        samples.push(phases);
        joined.child.kill("SIGTERM");
        await joined.exited;
        rmSync(dataDir, { recursive: true, force: true });
      }
      const row = (what: string, pick: (phases: Phases) => number, against?: Row) =>
        rowOf(what, "ms since spawn", samples.map(pick), against);
      const ready = row("node is ready", ({ readyMs }) => readyMs);
      const stolen = row("first task granted", ({ grantedMs }) => grantedMs, ready);
      const started = row("first stolen task runs", ({ runningMs }) => runningMs, ready);
      return {
        rows: [ready, stolen, started],
        checks: [atMost("join to the first stolen task", started.median, joinMaxMs, "ms")],
        notes: [`${project.name}, -j${jobs}, one slot each, on one machine`],
      };
    } finally {
      await building?.stop();
      await world.close();
    }
  },
};

/** Milliseconds since the new node's process was started. */
interface Phases {
  /** It says that it is in the mesh; it may have been granted something before that. */
  readonly readyMs: number;
  readonly grantedMs: number;
  readonly runningMs: number;
}

async function watchJoin(
  member: LiveNode,
  start: () => Promise<LiveNode>,
): Promise<readonly [LiveNode, Phases]> {
  const startMs = performance.now();
  const from = member.events.length;
  const [joined, grantedMs] = await Promise.all([
    start().then((node) => [node, performance.now() - startMs] as const),
    when(startMs, () =>
      member.events
        .slice(from)
        .some(({ event, peer }) => event === "task-started" && peer !== undefined),
    ),
  ]);
  const [node, readyMs] = joined;
  const runningMs = await when(startMs, () =>
    node.events.some(({ event }) => event === "foreign-started"),
  );
  return [node, { readyMs, grantedMs, runningMs }];
}

async function when(startMs: number, holds: () => boolean): Promise<number> {
  while (!holds()) {
    if (performance.now() - startMs > waitMaxMs) {
      throw new Error(`nothing was stolen within ${waitMaxMs} ms of a join`);
    }
    await new Promise((wake) => setTimeout(wake, lookEveryMs));
  }
  return performance.now() - startMs;
}

interface Building {
  stop(): Promise<void>;
}

/** Builds, cleans, and builds again. */
function keepBuilding({ dataDir }: LiveNode, dir: string): Building {
  let stopped = false;
  let child: ChildProcess | undefined;
  const loop = async () => {
    while (!stopped) {
      rmSync(joinPath(dir, "out"), { recursive: true, force: true });
      child = spawn(process.execPath, [program, "build", dir, "--jobs", String(jobs)], {
        stdio: "ignore",
        env: { ...process.env, MESH_DIR: dataDir },
      });
      const running = child;
      await new Promise<void>((done) => running.once("exit", () => done()));
    }
  };
  const over = loop();
  return {
    async stop() {
      stopped = true;
      child?.kill("SIGTERM");
      await over;
    },
  };
}
