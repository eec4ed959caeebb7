/**
 * One compile command whose result is known: how long the compiler's caller waits. Against a direct
 * hit of ccache on the same file; and, where the node knows nothing itself, with the result at a
 * peer, against a hit in the node's own store.
 *
 * Commands run one at a time, the cases by turns, from a program that adds next to nothing.
 */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { createWorld, type World } from "../../chaos-tests/live/nodes.ts";
import { atMost, type Bench, medianOf, type Result, rowOf } from "../bench.ts";
import { cpuOfTreeMs } from "../command.ts";
import { cxxProject, type Project } from "../projects.ts";
import {
  buildTimer,
  findProgram,
  type QuietNode,
  settled,
  shimOf,
  startQuietNode,
  type Timer,
} from "./cache-tools.ts";

const runsDefault = 20;
const slots = 2;
const files = 10;
/** Versions of each file that the peer knows; the first one only makes the other node warm. */
const versions = 11;
const hitMax = 1.2;
const peerMax = 2;

interface Place {
  readonly world: World;
  readonly project: Project;
  readonly timer: Timer;
  readonly node: QuietNode;
}

export const cacheHit: Bench = {
  name: "cache-hit",
  about: "one compile whose result is known, here or at a peer, against a direct hit of ccache",
  async run({ runs = runsDefault, say, signal }) {
    const world = await createWorld();
    const nodes: QuietNode[] = [];
    try {
      const project = await cxxProject(world.folder, "-O0", files, signal);
      for (const source of project.sources)
        mkdirSync(dirname(join(project.dir, objectOf(source))), { recursive: true });
      const node = await startQuietNode(world, "first", slots, undefined);
      nodes.push(node);
      const place = { world, project, node, timer: buildTimer(world.folder) };
      const here = await hitsHere(place, runs, say);
      const there = await hitsThere(place, nodes, say);
      return {
        rows: [...here.rows, ...there.rows],
        checks: [...here.checks, ...there.checks],
        notes: [...here.notes, ...there.notes, `${project.name}, one after the other`],
      };
    } finally {
      for (const node of nodes) await node.stop();
      await world.close();
    }
  },
};

function objectOf(source: string): string {
  return `out/${source}.o`;
}

/** Whole command lines, one for each source. */
function commandsOf({ project }: Place, compiler: readonly string[], version: number): string[][] {
  const [, ...flags] = project.compile;
  return project.sources.map((source) => [
    ...compiler,
    ...flags,
    `-DVERSION=${version}`,
    ...["-c", source, "-o", objectOf(source)],
  ]);
}

async function hitsHere(place: Place, runs: number, say: (line: string) => void): Promise<Result> {
  const { world, project, timer, node } = place;
  const cwd = project.dir;
  const { shim, env: meshEnv } = shimOf(node, "g++", cwd);
  const env = { ...meshEnv, CCACHE_DIR: join(world.folder, "ccache") };
  const ccache = findProgram("ccache");
  const compiler = findProgram("g++") ?? "g++";
  const mesh = commandsOf(place, [shim], 0);
  const peer = ccache === undefined ? [] : commandsOf(place, [ccache, compiler], 0);
  // By turns: a file through the one, then through the other.
  const commands = mesh.flatMap((command, at) => [command, ...peer.slice(at, at + 1)]);
  say("filling the caches");
  timer.run(commands, 1, { cwd, env });
  await settled();
  timer.run(commands, 1, { cwd, env });
  const beforeMs = cpuOfTreeMs(node.pid ?? 0);
  const samples = timer.run(commands, runs, { cwd, env });
  const nodeMs = cpuOfTreeMs(node.pid ?? 0) - beforeMs;
  const each = peer.length === 0 ? 1 : 2;
  const of = (turn: number) => samples.filter((_, at) => at % each === turn).flat();
  const ours = of(0);
  const theirs = each === 1 ? [] : of(1);
  const walls = (some: typeof ours) => some.map(({ wallMs }) => wallMs);
  const cpus = (some: typeof ours) => some.map(({ cpuMs }) => cpuMs);
  const base = theirs.length === 0 ? undefined : rowOf("ccache, direct hit", "ms", walls(theirs));
  const hit = rowOf("mesh, hit here", "ms", walls(ours), base);
  const rows = [
    ...(base === undefined ? [] : [base]),
    hit,
    ...(theirs.length === 0 ? [] : [rowOf("ccache, CPU", "ms", cpus(theirs))]),
    rowOf("mesh, the shim's CPU", "ms", cpus(ours)),
    rowOf("mesh, the node's CPU, mean", "ms", [nodeMs / ours.length]),
  ];
  return {
    rows,
    checks: hit.ratio === undefined ? [] : [atMost(hit.what, hit.ratio, hitMax, "× ccache")],
    notes: ccache === undefined ? ["ccache is not installed"] : [],
  };
}

/** A second node joins when everything is known to the first, and nothing to it. */
async function hitsThere(
  place: Place,
  nodes: QuietNode[],
  say: (line: string) => void,
): Promise<Result> {
  const { world, project, timer, node } = place;
  const cwd = project.dir;
  const { shim, env } = shimOf(node, "g++", cwd);
  for (let version = 0; version < versions; version += 1) {
    say(`filling the peer: version ${version + 1} of ${versions}`);
    timer.run(commandsOf(place, [shim], version), 1, { cwd, env });
  }
  const invite = (await world.mesh(node.dataDir, ["invite"])).stdout.trim();
  const other = await startQuietNode(world, "second", slots, { invite, peers: 1 });
  nodes.push(other);
  const another = shimOf(other, "g++", cwd);
  await settled();
  // The compiler and every header are new to it once.
  timer.run(commandsOf(place, [another.shim], 0), 2, { cwd, env: another.env });
  const there: number[] = [];
  const here: number[] = [];
  for (let version = 1; version < versions; version += 1) {
    // New command lines to both: neither has a plan for them left over from the run before.
    const commands = commandsOf(place, [another.shim], version);
    for (const [sample] of timer.run(commands, 1, { cwd, env: another.env }))
      there.push(sample?.wallMs ?? 0);
    for (const [sample] of timer.run(commands, 1, { cwd, env: another.env }))
      here.push(sample?.wallMs ?? 0);
  }
  const hits = await meshHits(world, other);
  const base = rowOf("mesh, the same hit here afterwards", "ms", here);
  const row = rowOf("mesh, hit at a peer", "ms", there, base);
  return {
    rows: [base, row],
    checks: [atMost(row.what, medianOf(there) / base.median, peerMax, "× hit here")],
    notes: [`the second node had ${hits} results from its peer`],
  };
}

async function meshHits(world: World, node: QuietNode): Promise<number> {
  const { stdout } = await world.mesh(node.dataDir, ["status", "--json"]);
  const { counters } = JSON.parse(stdout) as { counters: Readonly<Record<string, number>> };
  return counters.hitsMesh ?? 0;
}
