/**
 * `mesh cache stats|verify|gc`: what the node of a data directory keeps of earlier work.
 *
 * The running node answers; where none runs, one is started for the question, since nobody else may
 * touch its files.
 */
import { existsSync } from "node:fs";
import { MeshError } from "../base/errors.ts";
import type { CacheCall, CacheCollected, CacheStats, CacheVerified } from "../node/control-api.ts";
import {
  parseCacheGcReply,
  parseCacheStatsReply,
  parseCacheVerifyReply,
} from "../node/control-replies.ts";
import { nodePaths } from "../node/paths.ts";
import { countsText } from "./cache-calls.ts";
import { openCall } from "./client.ts";
import { exitFailed } from "./exit.ts";
import { createInterrupts } from "./interrupts.ts";
import { withNode } from "./session.ts";
import { countOf } from "./summary.ts";
import type { Terminal } from "./terminal.ts";

/** A node at work says so every second. */
const silenceMs = 10_000;

export interface CacheFlags {
  readonly dataDir: string;
  readonly json: boolean;
}

/** Exit code 1 when something was found damaged. */
export async function cacheCommand(
  what: CacheCall,
  { dataDir, json }: CacheFlags,
  terminal: Terminal,
): Promise<number> {
  if (!existsSync(nodePaths(dataDir).blobs)) {
    throw new MeshError(
      "usage",
      `nothing is kept in ${dataDir}: build something with \`mesh build\` first, ` +
        "or name another directory with --data-dir or MESH_DIR",
    );
  }
  const { reply, ownNode } = await askNode(dataDir, what);
  const say = (value: object, text: string) =>
    terminal.out(json ? `${JSON.stringify(value)}\n` : text);
  switch (what) {
    case "stats": {
      const stats = parseCacheStatsReply(reply);
      say(stats, statsText(stats, { dataDir, sinceStart: !ownNode }));
      return 0;
    }
    case "verify": {
      const verified = parseCacheVerifyReply(reply);
      say(verified, verifiedText(verified, dataDir));
      return verified.corrupt.length + verified.badRecords.length > 0 ? exitFailed : 0;
    }
    case "gc": {
      const collected = parseCacheGcReply(reply);
      say(collected, collectedText(collected));
      return 0;
    }
  }
}

interface Answered {
  readonly reply: Readonly<Record<string, unknown>>;
  /** The node was started for this question only. */
  readonly ownNode: boolean;
}

async function askNode(dataDir: string, what: CacheCall): Promise<Answered> {
  const interrupts = createInterrupts();
  let quiet: NodeJS.Timeout | undefined;
  try {
    const open = () => openCall(dataDir, { call: "cache", what }, () => quiet?.refresh());
    const { opened, embedded } = await withNode(dataDir, open, interrupts.signal);
    const onAbort = () => opened.close();
    interrupts.signal.addEventListener("abort", onAbort);
    quiet = setTimeout(onAbort, silenceMs);
    try {
      const end = await opened.ended;
      interrupts.signal.throwIfAborted();
      if (end.at === "failed") throw end.error;
      if (end.at === "lost") {
        const why = end.reason === "given up" ? "it has not answered for 10 s" : end.reason;
        throw new MeshError("peer-gone", `the node of ${dataDir} does not answer: ${why}`);
      }
      return { reply: end.reply, ownNode: embedded !== undefined };
    } finally {
      clearTimeout(quiet);
      opened.close();
      await embedded?.release();
    }
  } finally {
    interrupts.close();
  }
}

/** Pure, as the two below. */
export function statsText(
  stats: CacheStats,
  { dataDir, sinceStart }: { readonly dataDir: string; readonly sinceStart: boolean },
): string {
  const { blobs, bytes, quotaBytes, pinned, quarantined, records, recordBytes, refused } = stats;
  const { hitsHere, hitsMesh, misses } = stats;
  const asked = hitsHere + hitsMesh + misses;
  const share = asked === 0 ? "" : ` (${Math.round((100 * (hitsHere + hitsMesh)) / asked)} % hits)`;
  return lines([
    `${countOf(blobs, "file")}, ${sizeText(bytes)} of ${sizeText(quotaBytes)}` +
      (pinned > 0 ? `, ${pinned} in use` : ""),
    `${countOf(records, "known result")}, ${sizeText(recordBytes)}`,
    sinceStart &&
      `since the node started: ${countOf(hitsHere, "hit")} here, ` +
        `${countOf(hitsMesh, "hit")} in the mesh, ${countOf(misses, "miss", "misses")}${share}`,
    Object.keys(refused).length > 0 && `known results refused: ${countsText(refused)}`,
    quarantined > 0 &&
      `${countOf(quarantined, "damaged file")} in ${nodePaths(dataDir).quarantine}`,
  ]);
}

export function verifiedText(verified: CacheVerified, dataDir: string): string {
  const { checked, corrupt, recordsChecked, badRecords } = verified;
  const bad = corrupt.length + badRecords.length;
  return lines([
    `checked ${countOf(checked, "file")} and ${countOf(recordsChecked, "known result")}` +
      (bad === 0 ? ": all are right" : ""),
    corrupt.length > 0 &&
      `damaged, and in ${nodePaths(dataDir).quarantine} now: ${countOf(corrupt.length, "file")}`,
    ...corrupt.map((digest) => `  ${digest}`),
    badRecords.length > 0 && `forgotten: ${countOf(badRecords.length, "known result")}`,
    ...badRecords.map(({ action, why }) => `  ${action}: ${why}`),
  ]);
}

export function collectedText({ freedBytes, freedRecordBytes, stats }: CacheCollected): string {
  const records = freedRecordBytes > 0 ? ` and ${sizeText(freedRecordBytes)} of known results` : "";
  return lines([
    freedBytes + freedRecordBytes === 0
      ? "nothing to free"
      : `freed ${sizeText(freedBytes)} of files${records}`,
    `${countOf(stats.blobs, "file")}, ${sizeText(stats.bytes)} of ${sizeText(stats.quotaBytes)}, ` +
      countOf(stats.records, "known result"),
  ]);
}

function lines(parts: readonly (string | false)[]): string {
  return parts.flatMap((part) => (part === false ? [] : `${part}\n`)).join("");
}

/** "812 B", "3.4 kB", "1.2 GB". */
export function sizeText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = bytes;
  let at = 0;
  while (size >= 999.95 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${at === 0 ? size : size.toFixed(1)} ${units[at]}`;
}
