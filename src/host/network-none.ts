/** The network port of a node that belongs to no mesh: nobody is there, and nobody can come. */
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Network } from "./host.ts";

export function createNoNetwork(self: PeerId): Network {
  const nobody = () => Promise.reject(new MeshError("no-mesh", "this node belongs to no mesh"));
  return {
    self,
    listenAddrs: () => [],
    connect: nobody,
    open: nobody,
    serve: () => {},
    peers: () => [],
    addrOf: () => undefined,
    onChange: () => {},
    onFound: () => {},
    disconnect: async () => {},
    announce: async () => {},
    async *find() {},
    close: async () => {},
  };
}
