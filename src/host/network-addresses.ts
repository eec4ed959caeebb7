/**
 * Which of many addresses to try first, and which to tell others.
 *
 * Addresses are multiaddrs in text form. Looks at the machine's interfaces, never at the network.
 */
import { BlockList, isIP } from "node:net";
import { networkInterfaces } from "node:os";

/** One address of one of this machine's interfaces. */
export interface OwnInterface {
  readonly name: string;
  /** "192.168.1.7/24" */
  readonly cidr: string;
}

/** How an address is likely to be reached from here. In the order in which to try them. */
const reaches = ["neighbour", "private", "public", "bridge", "loopback"] as const;
export type Reach = (typeof reaches)[number];

/**
 * Virtual networks inside one machine. Every Docker host has the same ones, so that an address in
 * them leads other machines to themselves or to nobody.
 */
const bridgeNames = /^(docker|br-|virbr|veth|cni|flannel|cali|cilium|lxc|lxd|podman|vboxnet|vmnet)/;

const privateSubnets: readonly (readonly [string, number, "ipv4" | "ipv6"])[] = [
  ["10.0.0.0", 8, "ipv4"],
  ["172.16.0.0", 12, "ipv4"],
  ["192.168.0.0", 16, "ipv4"],
  ["100.64.0.0", 10, "ipv4"],
  ["169.254.0.0", 16, "ipv4"],
  ["fc00::", 7, "ipv6"],
  ["fe80::", 10, "ipv6"],
];

export function ownInterfaces(): readonly OwnInterface[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? []).flatMap(({ cidr }) => (cidr === null ? [] : [{ name, cidr }])),
  );
}

export function isLoopbackAddr(addr: string): boolean {
  return reachOf(addr, []) === "loopback";
}

export function reachOf(addr: string, own: readonly OwnInterface[]): Reach {
  const [, kind, host = ""] = addr.split("/");
  if (kind === "dns" || kind === "dns4" || kind === "dns6") {
    return host === "localhost" ? "loopback" : "public";
  }
  const family = isIP(host) === 6 ? "ipv6" : "ipv4";
  if (family === "ipv6" ? host === "::1" : host.startsWith("127.")) return "loopback";
  if (isIP(host) === 0) return "public";
  const near = own.filter(({ cidr }) => subnet(cidr)?.check(host, family) ?? false);
  if (near.length > 0) {
    return near.every(({ name }) => bridgeNames.test(name)) ? "bridge" : "neighbour";
  }
  return isPrivate(host, family) ? "private" : "public";
}

/** Negative when `a` is the better one to dial. */
export function compareReach(a: string, b: string, own: readonly OwnInterface[]): -1 | 0 | 1 {
  const by = reaches.indexOf(reachOf(a, own)) - reaches.indexOf(reachOf(b, own));
  return by < 0 ? -1 : by > 0 ? 1 : 0;
}

/** The same addresses, the likeliest to be reachable first. */
export function nearestFirst(addrs: readonly string[], own: readonly OwnInterface[]): string[] {
  return [...addrs].sort((a, b) => compareReach(a, b, own));
}

/**
 * What to tell others: loopback and bridge addresses only while there is nothing better. They cost
 * everybody else a failed dial each.
 */
export function worthTelling(addrs: readonly string[], own: readonly OwnInterface[]): string[] {
  const real = addrs.filter((addr) => !["bridge", "loopback"].includes(reachOf(addr, own)));
  if (real.length > 0) return real;
  const bridged = addrs.filter((addr) => reachOf(addr, own) === "bridge");
  return bridged.length > 0 ? bridged : [...addrs];
}

/** An address that names its peer at the end, as `addr` may or may not do already. */
export function withPeer(addr: string, peer: string): string {
  return addr.includes("/p2p/") ? addr : `${addr}/p2p/${peer}`;
}

export function withoutPeer(addr: string): string {
  return addr.split("/p2p/")[0] ?? addr;
}

function subnet(cidr: string): BlockList | undefined {
  const [address = "", bits] = cidr.split("/");
  if (isIP(address) === 0) return undefined;
  const list = new BlockList();
  list.addSubnet(address, Number(bits), isIP(address) === 6 ? "ipv6" : "ipv4");
  return list;
}

function isPrivate(host: string, family: "ipv4" | "ipv6"): boolean {
  const list = new BlockList();
  for (const [address, bits, kind] of privateSubnets) list.addSubnet(address, bits, kind);
  return list.check(host, family);
}
