/**
 * A real node between an honest peer and a crowd of hostile ones, on simulated hosts: everything
 * that comes over the wire takes the way it always takes.
 *
 * A case is one wave of attackers. While it lasts the honest pair works; after it the attackers are
 * gone, everything asked has settled, and the node holds nothing more than before.
 */
import { acProtocol } from "../../src/action/ac.ts";
import type { Execute } from "../../src/action/action.ts";
import { digestOf, hashHexOf, makeDigest } from "../../src/base/digest.ts";
import { isMeshError, MeshError, messageOf } from "../../src/base/errors.ts";
import type { MeshEvent } from "../../src/base/events.ts";
import type { Host } from "../../src/host/host.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { createMesh, type SimMesh, type SimNode } from "../simulator/mesh.ts";
import { createWorkload, isSettled, type Job, type Workload } from "../simulator/workload.ts";
import { type Act, acts, attack, type Report } from "./attacker.ts";
import { createGrowth, type Growth } from "./growth.ts";
import { pick } from "./mutate.ts";
import { finding, type OpenTarget, type Tally, type Target } from "./target.ts";

/** Of each pair the lower id opens the control stream: these come before "n0" and after it. */
const crowd = ["a", "z"].flatMap((name) => Array.from({ length: 12 }, (_, at) => `${name}${at}`));
/** Longer than anybody is barred. */
const barredMs = 62_000;
/** Longer than anybody is ignored as a provider. */
const forgottenMs = 660_000;
/** The logs of known results, which begin anew when there are 4 MiB too much in them. */
const noiseBytes = 12 * 1024 * 1024;
const forever = new AbortController().signal;

interface World {
  readonly mesh: SimMesh;
  readonly workload: Workload;
  readonly heard: MeshEvent[];
  readonly wrong: string[];
  readonly growth: Growth;
  /** What the attackers did in earlier cases is not held against them any more. */
  isForgotten: boolean;
}

/** Simulated commands cannot do what no real one is asked either. */
const sane =
  (execute: Execute): Execute =>
  (spec, onProgress, signal) => {
    const numbers = spec.argv.slice(2, 5);
    const isSane = numbers.length === 3 && numbers.every((one) => /^\d{1,4}$/.test(one));
    if (!isSane) return Promise.reject(new MeshError("io", "there is no such command"));
    return execute(spec, onProgress, signal);
  };

async function createWorld(seed: string): Promise<World> {
  const mesh = await createMesh(`fuzz ${seed}`, { nodes: 2, around: sane });
  await mesh.assembled(60_000);
  const heard: MeshEvent[] = [];
  const wrong: string[] = [];
  mesh.onEvent((node, event) => {
    if (node.name === "n0") heard.push(event);
  });
  const workload = createWorkload(() => true, {
    onSubmit() {},
    onCommit() {},
    onCommitted() {},
    onRunHere() {},
    onWrongBytes: ({ label }, peer) => void wrong.push(`${peer} gave wrong bytes for ${label}`),
    onWrongResult: ({ label }, signer) => void wrong.push(`${signer} signed wrong ${label}`),
  });
  for (const name of crowd) mesh.simulation.addHost(name);
  return {
    mesh,
    workload,
    heard,
    wrong,
    isForgotten: true,
    growth: createGrowth("the node and its honest peer", noiseBytes),
  };
}

/** The attackers' hosts, each in a new life. */
function summon({ mesh }: World): readonly Host[] {
  return crowd.map((name) => mesh.simulation.faults.restart(name));
}

function banish({ mesh }: World): void {
  for (const name of crowd) mesh.simulation.faults.kill(name);
}

async function wave(world: World, random: SeededRandom): Promise<Tally> {
  const { mesh, workload, heard, wrong } = world;
  const { simulation } = mesh;
  const victim = mesh.node("n0");
  const friend = mesh.node("n1");
  heard.length = 0;
  // Whoever has work of its own steals none: a wave is one or the other.
  const isBusy = random.chance(0.5);
  const kinds: readonly Act[] = acts.filter((act) => act !== (isBusy ? "owner" : "thief"));
  const [first = "hello", ...rest] = kinds;
  // The same ones in each wave, so that what is kept of them does not add up.
  const jobs = Array.from({ length: isBusy ? 8 : 3 }, (_, index) =>
    workload.submit(isBusy ? victim : friend, {
      ...{ unit: `unit-${isBusy}-${index}`, durationMs: 100 + 40 * index },
      ...{ lookUp: false, fresh: true },
    }),
  );
  const at = {
    self: victim.self,
    addr: "sim/n0",
    admitted: (peer: Parameters<typeof victim.directory.admitted>[0]) =>
      victim.directory.admitted(peer),
  };
  const attacks = summon(world).map((host, index) =>
    attack(host, at, pick(random, [first, ...rest]), random.fork(`${index}`)),
  );
  const asked = askAround(
    victim,
    random,
    crowd.map((name) => mesh.simulation.host(name)),
  );
  const reports = await simulation.finish(Promise.all(attacks), simulation.nowMs() + 60_000);
  for (const report of reports) judge(report, world);
  banish(world);
  await simulation.finish(asked, simulation.nowMs() + 120_000);
  await simulation.until(() => jobs.every(isSettled), simulation.nowMs() + 600_000);
  world.isForgotten = random.chance(0.2);
  await simulation.run(simulation.nowMs() + (world.isForgotten ? forgottenMs : barredMs));
  inspect(world, jobs);
  if (wrong.length > 0) throw finding(wrong.join("; "));
  // Jobs that are over need not be remembered for ever.
  (workload.jobs as Job[]).length = 0;
  world.growth.look();
  const frames = reports.reduce((sum, report) => sum + report.frames, 0);
  const accepted = reports.filter(({ met, fatal }) => met && fatal === undefined).length;
  return { frames, accepted };
}

/** The victim wants bytes and results from its peers, among them those that lie. */
async function askAround(
  { exchange, results, host }: SimNode,
  random: SeededRandom,
  hosts: readonly Host[],
): Promise<void> {
  const peers = hosts.map(({ network }) => network.self);
  await host.clock.sleep(1200, forever);
  const small = digestOf(random.bytes(100));
  const large = makeDigest(hashHexOf(small), 600_000);
  const action = digestOf(random.bytes(8));
  const settled = await Promise.allSettled([
    exchange.fetch([small], peers, forever),
    exchange.fetch([large], peers, forever),
    ...[0, 1, 2].map((index) => results.findInMesh(digestOf(random.bytes(9 + index)), forever)),
    results.findInMesh(action, forever),
  ]);
  for (const one of settled) {
    const isFine =
      one.status === "fulfilled"
        ? one.value === undefined
        : isMeshError(one.reason, "blob-missing", "blob-corrupt");
    if (!isFine)
      throw finding(
        one.status === "fulfilled" ? "a forged result was taken" : messageOf(one.reason),
      );
  }
}

/** Whoever sent what no receiver may go on after was cut off, and told about by name. */
function judge(
  { peer, act, fatal, unanswered }: Report,
  { heard, isForgotten }: Pick<World, "heard" | "isForgotten">,
): void {
  // Who told wrong results is not listened to for a while; nobody is refused bytes for that.
  const isDeaf = unanswered === acProtocol && !isForgotten;
  if (unanswered !== undefined && !isDeaf)
    throw finding(`${peer} came back and was not answered: ${unanswered}`);
  if (fatal === undefined) return;
  const end = fatal.line.end();
  // A hello that was good to its end is over before what follows it in one breath.
  if (act === "hello" && end?.how === "closed") return;
  if (end?.how !== "reset") throw finding(`${peer} was not cut off: ${fatal.why}`);
  if (act === "asker" || act === "provider" || act === "home") return;
  const isTold = heard.some(
    (event) => event.event === "peer-refused" && event.peer === peer && event.reason !== "",
  );
  if (!isTold) throw finding(`${peer} was cut off without a word: ${fatal.why}`);
}

function inspect({ mesh }: World, jobs: readonly Job[]): void {
  for (const { label, failure, outcome } of jobs)
    if (outcome === undefined) throw finding(`${label} failed: ${messageOf(failure)}`);
  for (const node of mesh.nodes()) {
    const counts = node.owner.counts();
    const left = {
      ...counts,
      held: node.thief.held(),
      busy: node.slots.busy,
      strangers: node.directory.peers().length - 1,
    };
    for (const [what, count] of Object.entries(left))
      if (count !== 0) throw finding(`${node.name} has ${count} ${what} left`);
  }
}

export const peersTarget: Target = {
  name: "peers",
  share: 3,
  leansOnEarlier: true,
  async open(seed): Promise<OpenTarget> {
    const world = await createWorld(seed);
    return {
      run: (random) => wave(world, random),
      async close() {
        world.growth.check();
      },
    };
  },
};
