/**
 * From `mesh-node join INVITE` on a new machine to its first stolen task, while a member builds.
 *
 * Every join is a fresh process with a fresh data directory: a new identity, no shim yet, and none
 * of the compiler in its store. The member has one slot and an endless supply of C++ to compile.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join as joinPath, resolve } from "node:path";
import { createWorld, type LiveNode } from "../../chaos-tests/live/nodes.ts";
import { atMost, type Bench, rowOf } from "../bench.ts";
import { cxxProject } from "../projects.ts";

const program = resolve(import.meta.dirname, "../../dist/cli/main.js");
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
      const phases = new Map<Phase, number[]>(phaseNames.map((name) => [name, []]));
      for (let run = 1; run <= runs; run += 1) {
        signal.throwIfAborted();
        const startMs = performance.now();
        const dataDir = joinPath(world.folder, `joined-${run}`);
        const joined = await world.start({ slots: 1, invite: member.invite, dataDir });
        const readyMs = performance.now() - startMs;
        const seen = await watch(joined, startMs);
        for (const [phase, ms] of [["node is ready", readyMs], ...seen] as const)
          phases.get(phase)?.push(ms);
        say(`join ${run} of ${runs}: ${Math.round(seen.get("first stolen task runs") ?? 0)} ms`);
        joined.child.kill("SIGTERM");
        await joined.exited;
        rmSync(dataDir, { recursive: true, force: true });
      }
      const rows = [...phases].map(([phase, ms]) => rowOf(phase, "ms since spawn", ms));
      const [ready, ...later] = rows;
      const last = rows.at(-1);
      return {
        rows: [ready, ...later].flatMap((row) =>
          row === undefined || ready === undefined
            ? []
            : [
                row === ready
                  ? row
                  : { ...row, ratio: row.median / ready.median, against: ready.what },
              ],
        ),
        checks: [atMost("join to the first stolen task", last?.median ?? 0, joinMaxMs, "ms")],
        notes: [`${project.name}, -j${jobs}, one slot each, on one machine`],
      };
    } finally {
      await building?.stop();
      await world.close();
    }
  },
};

const phaseNames = [
  "node is ready",
  "peer is known",
  "first steal",
  "first stolen task runs",
] as const;
type Phase = (typeof phaseNames)[number];

/** When each phase was seen, in milliseconds since `startMs`. */
async function watch(node: LiveNode, startMs: number): Promise<ReadonlyMap<Phase, number>> {
  const seen = new Map<Phase, number>();
  const wanted: readonly (readonly [
    Phase,
    (event: Readonly<Record<string, unknown>>) => boolean,
  ])[] = [
    ["peer is known", ({ event }) => event === "peer-joined"],
    ["first steal", ({ event, granted }) => event === "steal-asked" && Number(granted) > 0],
    ["first stolen task runs", ({ event }) => event === "foreign-started"],
  ];
  while (seen.size < wanted.length) {
    const nowMs = performance.now() - startMs;
    if (nowMs > waitMaxMs) throw new Error(`nothing was stolen within ${waitMaxMs} ms of a join`);
    for (const [phase, is] of wanted)
      if (!seen.has(phase) && node.events.some(is)) seen.set(phase, nowMs);
    await new Promise((wake) => setTimeout(wake, lookEveryMs));
  }
  return seen;
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
