/** Tasks as they travel from owner to thief. */
import { create } from "@bufbuild/protobuf";
import type { EncodedAction } from "../action/action.ts";
import type { TaskId } from "../base/ids.ts";
import { type Grant, GrantSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { digestToProto } from "../wire/messages.ts";
import type { Task } from "./task.ts";

/** A tree up to this size travels inside its grant; a larger one is fetched like any blob. */
export const inlineTreeMaxBytes: number = 128 * 1024;

export function toGrant(
  id: TaskId,
  attempt: number,
  leaseMs: number,
  expectedMs: number,
  task: Task,
  action: EncodedAction,
): Grant {
  return create(GrantSchema, {
    task: id,
    attempt,
    leaseMs,
    kind: task.kind,
    label: task.label,
    action: action.actionBytes,
    command: action.commandBytes,
    tree: digestToProto(action.tree),
    inlineBlobs: action.treeBytes.byteLength <= inlineTreeMaxBytes ? [action.treeBytes] : [],
    expectedMs: Math.round(expectedMs),
  });
}
