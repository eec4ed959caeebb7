/** A node inside the benchmark's own process, so that tasks can be submitted without any door. */
import { join } from "node:path";
import type { World } from "../chaos-tests/live/nodes.ts";
import { until } from "../chaos-tests/live/nodes.ts";
import { systemPrefixes } from "../src/blob/twin.ts";
import { type OpenNode, openNode } from "../src/node/open.ts";
import { encodeInvite } from "../src/peer/invite.ts";

const cacheSizeBytes = 2e9;
const inviteS = 3600;

/** The caller stops it. */
export function openOwner(
  world: World,
  name: string,
  slots: number,
  signal: AbortSignal,
): Promise<OpenNode> {
  return openNode(
    {
      dataDir: join(world.folder, name),
      listen: ["/ip4/127.0.0.1/tcp/0"],
      bootstrap: [],
      mdns: false,
      slots,
      name,
      nameDefault: name,
      labels: {},
      cacheSizeBytes,
      lend: "always",
      strategy: "power-of-two",
      drainMs: 0,
      sandbox: undefined,
      invite: undefined,
      twinPrefixes: [...systemPrefixes],
      embedded: false,
    },
    signal,
  );
}

/** @param through gives the addresses under which it is to be reached in place of its own */
export function inviteOf(node: OpenNode, through = (addr: string): string => addr): string {
  return encodeInvite({
    meshKey: node.membership.meshKey,
    inviter: node.self,
    addrs: node.host.network.listenAddrs().map(through),
    expiresAtSeconds: Math.ceil(node.host.clock.wallMs() / 1000) + inviteS,
  });
}

export function peersKnown(node: OpenNode, count: number): Promise<void> {
  return until(`${count} peers`, () => node.directory.peers().length >= count);
}

/**
 * Takes one of the node's slots; the call that comes back gives it free. Waits for one: the last
 * tasks may be done elsewhere while a backup of theirs still ends here.
 */
export async function holdSlot(node: OpenNode): Promise<() => void> {
  await until("a free slot", () => node.slots.busy < node.slots.count);
  const slot = node.slots.tryTake();
  if (slot === undefined) throw new Error("no slot is free");
  return slot;
}
