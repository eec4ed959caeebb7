/**
 * This node as a peer of itself: how its own idle slots come to run backups of its own tasks.
 *
 * A task that lags behind at a thief may be run here as well, by the worker half and in the same
 * sandbox as a foreign one, so that two runs never write to the same place. The two halves then
 * talk as they would over the wire, only that nothing is sent.
 */
import type { PeerId } from "../base/ids.ts";
import type { Control, ControlHandlers } from "../peer/control.ts";
import type { Directory, Peer } from "../peer/directory.ts";
import type { Description } from "../peer/hello-message.ts";

export interface AroundSelf {
  readonly control: Control;
  readonly directory: Pick<Directory, "peers">;
  /** Set once, before anything is said. */
  attach(handlers: ControlHandlers): void;
}

export function aroundSelf(
  self: PeerId,
  own: Description,
  control: Control,
  directory: Pick<Directory, "peers">,
): AroundSelf {
  let handlers: ControlHandlers | undefined;

  /** Only while nothing of its own waits here: that is not stolen, it is run. */
  function ownPeer(): readonly Peer[] {
    const load = handlers?.load();
    if (load === undefined || load.stealable === 0 || load.queued > 0) return [];
    return [{ id: self, ...own, addrs: [], load: { ...load, atMs: 0 }, rttMs: 0 }];
  }

  return {
    control: {
      ...control,
      send(peer, message, urgency) {
        if (peer !== self) return control.send(peer, message, urgency);
        // A turn later: neither half expects an answer while it still speaks.
        queueMicrotask(() => handlers?.onMessage(self, message));
      },
      async steal(peer, request, signal) {
        const grant = peer === self ? handlers?.onSteal(self, request) : undefined;
        return grant ?? control.steal(peer, request, signal);
      },
    },
    directory: { peers: () => [...ownPeer(), ...directory.peers()] },
    attach(given) {
      handlers = given;
    },
  };
}
