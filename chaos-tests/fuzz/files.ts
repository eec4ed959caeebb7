/**
 * What a node reads when it starts, damaged in every way: `mesh.json`, the log of known results,
 * the folder of blobs, the history of tasks. A start either fails with a reason and leaves the file
 * alone, or goes on without what is lost.
 */
import { openRecords, recordsDefaults } from "../../src/action/records.ts";
import { concatBytes, utf8 } from "../../src/base/bytes.ts";
import { isMeshError } from "../../src/base/errors.ts";
import { createBlobStore } from "../../src/blob/store.ts";
import { createHistory } from "../../src/compile/history.ts";
import { readHistory } from "../../src/compile/why.ts";
import type { Host } from "../../src/host/host.ts";
import { createMembership } from "../../src/peer/membership.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { createSimulation, type Simulation } from "../../src/sim/simulation.ts";
import { mutate, pick } from "./mutate.ts";
import { mutateJson } from "./mutate-json.ts";
import { action, keys, record, spec } from "./seeds.ts";
import { finding, type Target } from "./target.ts";

type Start = (host: Host, random: SeededRandom) => Promise<boolean>;

const forever = new AbortController().signal;
const limitMs = 60_000;
const emit = (): void => {};

const peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const meshFile = {
  ...{ version: 1, meshKey: "00".repeat(32), name: "n", roles: ["member"] },
  peers: [{ peer, addrs: [`/ip4/10.0.0.1/tcp/1/p2p/${peer}`], lastSeenWallMs: 1_800_000_000_000 }],
};

async function put(host: Host, path: string, bytes: Uint8Array): Promise<void> {
  await host.disk.writeAtomic(path, bytes, { mode: 0o600, sync: false });
}

const startMembership: Start = async ({ disk, clock, random: chance }, random) => {
  const text = utf8(mutateJson(random, [meshFile]));
  const bytes = random.chance(0.3) ? mutate(random, text, []) : text;
  await disk.writeAtomic("/data/mesh.json", bytes, { mode: 0o600, sync: false });
  const options = { dataDir: "/data", invite: undefined, name: undefined, nameDefault: "d" };
  try {
    await createMembership({ disk, clock, random: chance, emit }, options);
    return true;
  } catch (error) {
    if (!isMeshError(error, "malformed")) throw error;
    const after = await disk.read("/data/mesh.json");
    // It may hold the only copy of the mesh key.
    if (Buffer.compare(after, bytes) !== 0) throw finding("a damaged mesh.json is replaced", bytes);
    return false;
  }
};

/** As the log writes it: made by a log, then damaged. */
async function recordLogOf(host: Host): Promise<Uint8Array> {
  const records = await openRecords(
    { keys, disk: host.disk, clock: host.clock, emit },
    { ...recordsDefaults, directory: "/made" },
    forever,
  );
  records.add(action.digest, { record, told: false });
  await records.flush();
  return host.disk.read("/made/log");
}

const startRecords: Start = async (host, random) => {
  const whole = await recordLogOf(host);
  const log = concatBytes([whole, whole, whole]);
  await host.disk.makeDirectory("/data/results");
  const bytes = mutate(random, log, [whole]);
  await put(host, "/data/results/log", bytes);
  const records = await openRecords(
    { keys, disk: host.disk, clock: host.clock, emit },
    { ...recordsDefaults, directory: "/data/results" },
    forever,
  );
  const known = records.actions().flatMap((one) => records.trusted(one) ?? []);
  if (known.some(({ action: named }) => named !== action.digest))
    throw finding("a damaged log knows another action", bytes);
  await records.flush();
  await host.disk.remove("/made/log");
  return known.length > 0;
};

const startStore: Start = async ({ disk, clock }, random) => {
  const hex = "0123456789abcdef".repeat(4);
  const name = pick(random, [hex, hex.slice(1), `${hex}0`, "x", ".mesh-tmp-1", "é"]);
  const folder = `/data/blobs/${pick(random, ["01", "zz", ".."])}/${pick(random, ["23", "x"])}`;
  await disk.makeDirectory(folder);
  const file = { mode: 0o600, sync: false };
  await disk.writeAtomic(`${folder}/${name}`, random.bytes(random.below(50)), file);
  await disk.writeAtomic(`/data/blobs/${name}f`, random.bytes(3), file);
  const options = { directory: "/data", quotaBytes: 1e6, sync: "never" } as const;
  const store = await createBlobStore({ disk, clock }, options, forever);
  const digest = await store.put(utf8("whole"));
  if ((await store.read(digest)).byteLength !== 5)
    throw finding(`${folder}/${name} breaks a store`);
  return true;
};

const task = {
  ...{ task: "t", build: "b", kind: "c", label: "a.c", outputs: ["/w/a.o"], source: "here" },
  ...{ exitCode: 0, wallMs: 1, planMs: 0, lookupMs: 0, endedWallMs: 1, action: action.digest },
  phases: { queueMs: 0, fetchMs: 0, runMs: 1, returnMs: 0 },
};

const startHistory: Start = async ({ disk, clock }, random) => {
  const folder = "/data/history";
  await disk.makeDirectory(folder);
  const lines = `${mutateJson(random, [task])}\n${JSON.stringify(task)}\n`;
  const bytes = mutate(random, utf8(lines), []);
  await disk.writeAtomic(`${folder}/tasks.ndjson`, bytes, { mode: 0o600, sync: false });
  const planned = mutate(random, utf8(`["s",1,"a"]\n["a","x",1,1,"1","1","1","1"]\n`), []);
  await disk.writeAtomic(`${folder}/planned.ndjson`, planned, { mode: 0o600, sync: false });
  const view = await readHistory(disk, folder);
  for (const one of view.records) view.missOf(one);
  const history = await createHistory({ disk, clock }, { folder, recordsMax: 10 });
  const phases = { queueMs: 0, fetchMs: 0, runMs: 1, returnMs: 0 };
  const own = {
    ...{ task: "own", build: "b", kind: "c", label: "a.c", outputs: ["/w/a.o"] },
    ...{ action: action.digest, source: "here" as const, peer: undefined, signer: undefined },
    ...{ exitCode: 0, whyHere: undefined, fallback: undefined, wallMs: 1, phases },
    ...{ planMs: 0, lookupMs: 0, endedWallMs: 1, kept: undefined },
  };
  history.add(own, spec);
  await history.close();
  const after = await readHistory(disk, folder);
  if (!after.records.some((one) => one.task === "own")) throw finding("history stops", bytes);
  return view.records.length > 0;
};

const starts: readonly (readonly [string, Start])[] = [
  ["mesh-file", startMembership],
  ["results-folder", startRecords],
  ["blob-folder", startStore],
  ["history-folder", startHistory],
];
/** A simulated disk keeps what was written to it, so it is thrown away now and then. */
const casesPerHost = 50;

function startTarget([name, start]: (typeof starts)[number]): Target {
  return {
    name,
    share: 0.5,
    async open(seed) {
      let simulation: Simulation | undefined;
      let cases = 0;
      return {
        async run(random) {
          if (simulation === undefined || cases % casesPerHost === 0) {
            simulation = createSimulation(`${seed} ${name} ${cases}`);
            const { disk } = simulation.addHost("h");
            await simulation.finish(disk.makeDirectory("/data"), limitMs);
          }
          cases += 1;
          // Each case is a life of its own on the same disk.
          const host = simulation.faults.restart("h");
          const started = start(host, random);
          const accepted = await simulation.finish(started, simulation.nowMs() + limitMs);
          return { frames: 1, accepted: accepted ? 1 : 0 };
        },
        async close() {},
      };
    },
  };
}

export const fileTargets: readonly Target[] = starts.map(startTarget);
