/** What an owner says to its thieves. */
import { create } from "@bufbuild/protobuf";
import type { PeerId } from "../base/ids.ts";
import type { Control } from "../peer/control.ts";
import { CancelSchema, TaskClosedSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";

export interface Voice {
  /** Stop running this. */
  cancel(peer: PeerId, task: string, attempt: number): void;
  /** The answer was taken or refused; its outputs may be dropped. */
  close(peer: PeerId, task: string, attempt: number, accepted: boolean): void;
}

export function createVoice(control: Pick<Control, "send">): Voice {
  return {
    cancel: (peer, task, attempt) =>
      control.send(peer, { type: "cancel", value: create(CancelSchema, { task, attempt }) }),
    close: (peer, task, attempt, accepted) =>
      // The thief waits for nothing else: it can ride with whatever is said next.
      control.send(
        peer,
        { type: "closed", value: create(TaskClosedSchema, { task, attempt, accepted }) },
        "lazy",
      ),
  };
}
