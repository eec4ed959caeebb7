/**
 * Reads the closing answers of a node's control socket: see `control-api.ts`.
 */
import type {
  BuildSummary,
  CacheCollected,
  CacheStats,
  CacheVerified,
  Check,
  InviteReply,
  NodeStatus,
  PeerDetail,
  PeerLoad,
} from "./control-api.ts";
import {
  array,
  boolean,
  checked,
  number,
  object,
  oneOf,
  optional,
  orNull,
  record,
  type Shape,
  text,
  whole,
} from "./shapes.ts";

/** Each of these: @throws MeshError "malformed". */
export function parseStatusReply(reply: unknown): NodeStatus {
  return checked(statusReply, reply, "status answer").status;
}

export function parsePeersReply(reply: unknown): readonly PeerDetail[] {
  return checked(peersReply, reply, "peers answer").peers;
}

export function parseInviteReply(reply: unknown): InviteReply {
  return checked(inviteReply, reply, "invite answer");
}

export function parseDoctorReply(reply: unknown): readonly Check[] {
  return checked(doctorReply, reply, "doctor answer").checks;
}

export function parseBuildReply(reply: unknown): BuildSummary {
  return checked(buildReply, reply, "build answer").summary;
}

export function parseCacheStatsReply(reply: unknown): CacheStats {
  return checked(statsReply, reply, "cache answer").stats;
}

export function parseCacheVerifyReply(reply: unknown): CacheVerified {
  return checked(verifyReply, reply, "cache answer").verified;
}

export function parseCacheGcReply(reply: unknown): CacheCollected {
  return checked(collectReply, reply, "cache answer").collected;
}

const words = text(65_536);
const count = whole(0);
const load = { peerId: words, name: words, slots: count, busy: count, queued: count };
const peerLoad: Shape<PeerLoad> = { ...load, rttMs: orNull(number) };
const peersReply = object<{ peers: readonly PeerDetail[] }>({
  peers: array(
    object<PeerDetail>({
      ...peerLoad,
      platform: words,
      sandbox: words,
      addrs: array(words),
      labels: record(words),
    }),
  ),
});
const statusReply = object<{ status: NodeStatus }>({
  status: object<NodeStatus>({
    ...load,
    peers: array(object(peerLoad)),
    counters: record(number),
  }),
});
const inviteReply = object<InviteReply>({ invite: words, expiresUnixMs: number });
const doctorReply = object<{ checks: readonly Check[] }>({
  checks: array(
    object<Check>({
      name: words,
      ok: boolean,
      level: oneOf("ok", "warn", "fail"),
      message: words,
      fix: optional(words),
    }),
  ),
});
const buildReply = object<{ summary: BuildSummary }>({
  summary: object<BuildSummary>({
    tasks: count,
    local: count,
    stolen: count,
    cachedLocal: count,
    cachedMesh: count,
    fallback: array(object<{ reason: string; count: number }>({ reason: words, count })),
    wallMs: number,
    clientCpuMs: number,
    byPeer: record(count),
    compared: optional(count),
    differing: optional(count),
  }),
});
const cacheStats = object<CacheStats>({
  blobs: count,
  bytes: count,
  quotaBytes: count,
  pinned: count,
  quarantined: count,
  records: count,
  recordBytes: count,
  hitsHere: count,
  hitsMesh: count,
  misses: count,
  refused: record(count),
});
const statsReply = object<{ stats: CacheStats }>({ stats: cacheStats });
const verifyReply = object<{ verified: CacheVerified }>({
  verified: object<CacheVerified>({
    checked: count,
    corrupt: array(words),
    recordsChecked: count,
    badRecords: array(object<{ action: string; why: string }>({ action: words, why: words })),
  }),
});
const collectReply = object<{ collected: CacheCollected }>({
  collected: object<CacheCollected>({
    freedBytes: count,
    freedRecordBytes: count,
    stats: cacheStats,
  }),
});
