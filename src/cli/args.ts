/** Reads the values of command line flags. Everything wrong is a "usage" failure of one line. */
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { MeshError } from "../base/errors.ts";

export function parseCount(flag: string, text: string, max: number): number {
  const value = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > max) {
    throw new MeshError("usage", `${flag} takes a whole number from 1 to ${max}, not '${text}'`);
  }
  return value;
}

const sizeUnits: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** `20GB`, `512MiB`, `1.5TB`; a number alone would leave it open of what. */
export function parseSizeBytes(flag: string, text: string): number {
  const parts = /^(\d{1,9}(?:\.\d{1,6})?) ?([kmgt]?i?b)$/i.exec(text);
  const unit = sizeUnits[parts?.[2]?.toUpperCase() ?? ""];
  if (parts === null || unit === undefined) {
    throw new MeshError("usage", `${flag} takes a size such as 20GB or 512MiB, not '${text}'`);
  }
  return Math.round(Number(parts[1]) * unit);
}

const durationUnits: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

export function parseDurationMs(flag: string, text: string, maxMs: number, minMs = 1): number {
  const parts = /^(\d{1,6})([smhd])$/.exec(text);
  const durationMs = Number(parts?.[1]) * (durationUnits[parts?.[2] ?? ""] ?? 0);
  if (!(durationMs >= minMs && durationMs <= maxMs)) {
    const max = maxMs < 86_400_000 ? `${maxMs / 3_600_000}h` : `${Math.floor(maxMs / 86_400_000)}d`;
    throw new MeshError(
      "usage",
      `${flag} takes a time such as 30m, 24h or 7d, at most ${max}, not '${text}'`,
    );
  }
  return durationMs;
}

export function parseLabel(text: string): readonly [string, string] {
  const parts = /^([A-Za-z0-9][A-Za-z0-9._-]{0,62})=(.{0,200})$/.exec(text);
  if (parts?.[1] === undefined || parts[2] === undefined) {
    throw new MeshError("usage", `--label takes KEY=VALUE such as room=lab, not '${text}'`);
  }
  return [parts[1], parts[2]];
}

/** A multiaddr as it is, or HOST:PORT, which people know better, as one. */
export function parseAddr(flag: string, text: string): string {
  if (/^\/[a-z0-9]+\/[^\s]+$/.test(text)) return text;
  const parts = /^(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const port = Number(parts?.[3]);
  if (parts === null || port > 65_535) {
    throw new MeshError(
      "usage",
      `${flag} takes an address such as 192.168.1.5:4001 or /ip4/192.168.1.5/tcp/4001, not '${text}'`,
    );
  }
  const [, ip6, host = ""] = parts;
  if (ip6 !== undefined) return `/ip6/${ip6}/tcp/${port}`;
  return `/${/^\d+(\.\d+){3}$/.test(host) ? "ip4" : "dns"}/${host}/tcp/${port}`;
}

export function oneOf<T extends string>(flag: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === text);
  if (found === undefined) {
    throw new MeshError("usage", `${flag} takes ${allowed.join(" or ")}, not '${text}'`);
  }
  return found;
}

/** The data directory: the flag, else MESH_DIR, else ~/.mesh-node. Absolute. */
export function dataDirOf(flag: string | undefined, env: NodeJS.ProcessEnv): string {
  const named = flag ?? env.MESH_DIR;
  return named === undefined || named === "" ? join(homedir(), ".mesh-node") : resolve(named);
}
