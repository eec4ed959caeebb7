/**
 * Every reader of JSON: the control socket's requests, answers and events, job manifests, and the
 * files of a node's history.
 */

import { utf8 } from "../../src/base/bytes.ts";
import { isMeshError } from "../../src/base/errors.ts";
import { createPlannedTable, readPlanned } from "../../src/compile/planned.ts";
import { parseManifest } from "../../src/job/manifest.ts";
import {
  type ControlLine,
  parseControlLine,
  parseControlRequest,
} from "../../src/node/control-api.ts";
import {
  parseBuildReply,
  parseCacheGcReply,
  parseCacheStatsReply,
  parseCacheVerifyReply,
  parseDoctorReply,
  parseInviteReply,
  parsePeersReply,
  parseStatusReply,
} from "../../src/node/control-replies.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { pick } from "./mutate.ts";
import { mutateJson } from "./mutate-json.ts";
import { action, spec } from "./seeds.ts";
import { expected, finding, type Target } from "./target.ts";

interface Reader {
  readonly name: string;
  readonly share: number;
  /** Right ones. */
  readonly values: readonly [unknown, ...unknown[]];
  readonly read: (text: string) => void;
}

/** As a node's socket gives a line to its reader. @throws SyntaxError */
function parsed(text: string): unknown {
  return JSON.parse(text);
}

export const controlRequests: readonly [unknown, ...unknown[]] = [
  { call: "status" },
  { call: "peers" },
  { call: "invite", expiresMs: 3_600_000 },
  { call: "cache", what: "stats" },
  {
    ...{ call: "build", dir: "/w", jobs: 4, steal: true },
    ...{ cacheRead: true, cacheWrite: true, compare: false },
  },
  {
    call: "run",
    module: "/w/m.wasm",
    manifest: { module: "m.wasm" },
    input: "/w/i",
    output: "/w/o",
  },
];

const load = { peerId: "p", name: "n", slots: 2, busy: 1, queued: 0 };
const stats = {
  ...{ blobs: 1, bytes: 2, quotaBytes: 3, pinned: 0, quarantined: 0, records: 1, recordBytes: 9 },
  ...{ hitsHere: 0, hitsMesh: 0, misses: 1, refused: { signature: 2 } },
};
const events: readonly [unknown, ...unknown[]] = [
  { event: "peer-joined", peer: "p", name: "n", slots: 2 },
  {
    ...{ event: "task-done", task: "t", build: "b", label: "a.c", source: "there", peer: "p" },
    ...{ exitCode: 0, wallMs: 3, phases: { queueMs: 1, fetchMs: 0, runMs: 1, returnMs: 1 } },
  },
  {
    event: "task-compared",
    task: "t",
    build: "b",
    label: "l",
    equal: false,
    differs: [{ path: "/x", atByte: 3 }],
  },
  { event: "progress", id: "j", done: 1, total: 3 },
  { ok: true, status: { ...load, peers: [{ ...load, rttMs: null }], counters: { x: 1 } } },
  { ok: false, error: { code: "io", message: "no" } },
];

function readReply(line: ControlLine): void {
  if (line.at !== "done") return;
  for (const parse of [
    ...[parseStatusReply, parsePeersReply, parseInviteReply, parseDoctorReply, parseBuildReply],
    ...[parseCacheStatsReply, parseCacheVerifyReply, parseCacheGcReply],
  ]) {
    try {
      parse(line.reply);
    } catch (error) {
      if (!isMeshError(error, "malformed")) throw error;
    }
  }
}

const readers: readonly Reader[] = [
  {
    name: "control-request",
    share: 4,
    values: controlRequests,
    read: (text) => void parseControlRequest(parsed(text)),
  },
  {
    name: "control-line",
    share: 4,
    values: [
      ...events,
      { ok: true, stats },
      {
        ok: true,
        peers: [
          { ...load, rttMs: 1, platform: "x", sandbox: "", addrs: ["a"], labels: { k: "v" } },
        ],
      },
      { ok: true, checks: [{ name: "n", ok: true, level: "ok", message: "m" }] },
      { ok: true, collected: { freedBytes: 0, freedRecordBytes: 0, stats } },
      { ok: true, verified: { checked: 1, corrupt: ["d"], recordsChecked: 1, badRecords: [] } },
    ],
    read: (text) => readReply(parseControlLine(text)),
  },
  {
    name: "job-manifest",
    share: 1,
    values: [{ module: "m.wasm", name: "n", memoryMiB: 16, timeoutMs: 1000 }],
    read: (text) => void parseManifest(text, "job.json"),
  },
];

function readerTarget({ name, share, values, read }: Reader): Target {
  return {
    name,
    share,
    async open() {
      return {
        run(random) {
          const text = mutateJson(random, values);
          try {
            read(text);
            return { frames: 1, accepted: 1 };
          } catch (error) {
            if (!(error instanceof SyntaxError)) expected(error, ["malformed"], utf8(text));
            return { frames: 1, accepted: 0 };
          }
        },
        async close() {},
      };
    },
  };
}

/** `planned.ndjson` with what was written of one action, and damage in one of its lines. */
function damagedPlanned(random: SeededRandom): string {
  const lines = createPlannedTable("").linesFor(action.digest, spec).split("\n");
  const isAction = (one: string): boolean => one.startsWith('["a"');
  const at = random.chance(0.5) ? lines.findIndex(isAction) : random.below(lines.length);
  const line = lines[at] ?? "";
  const cut = random.below(line.length + 1);
  const number = pick(random, ["9007199254740992", "1e999", "-1", "1-4294967295", "NaN", "0x10"]);
  const changed = pick(random, [
    line.slice(0, cut),
    line.slice(0, cut) + line.slice(cut + 1),
    line.replace(/\d+/, number),
    line.replace(/\d+(-\d+)?(?="\]$)/, `${number}-${number}`),
    line.replace(/\d+(-\d+)?(?="\]$)/, `${number}-9007199254740994`),
    line + line,
    `["a","${"0".repeat(16)}"${",".repeat(random.below(9))}]`,
  ]);
  return lines.with(at, changed).join("\n");
}

const planned: Target = {
  name: "planned-file",
  share: 1,
  async open() {
    return {
      run(random) {
        const text = damagedPlanned(random);
        let inputs = 0;
        for (const expand of readPlanned(text).values()) inputs += expand().inputs.size;
        if (inputs > spec.inputs.length) throw finding("inputs out of nothing", utf8(text));
        createPlannedTable(text).linesFor(action.digest, spec);
        return { frames: 1, accepted: inputs > 0 ? 1 : 0 };
      },
      async close() {},
    };
  },
};

export const textTargets: readonly Target[] = [...readers.map(readerTarget), planned];
