/** Tasks as they travel from owner to thief. */
import { create } from "@bufbuild/protobuf";
import type { EncodedAction } from "../action/action.ts";
import { isMeshError } from "../base/errors.ts";
import type { TaskId } from "../base/ids.ts";
import type { BlobStore } from "../blob/store.ts";
import { type Grant, GrantSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { digestToProto } from "../wire/messages.ts";
import type { Task } from "./task.ts";

/** A tree up to this size travels inside its grant; a larger one is fetched like any blob. */
const inlineTreeMaxBytes = 128 * 1024;

/** All grants of one answer together: well below the frame they travel in. */
export const grantsMaxBytes: number = 768 * 1024;

/** Names, numbers and framing of one grant. */
const overheadBytes = 1024;

export function grantBytesOf({ actionBytes, commandBytes, treeBytes }: EncodedAction): number {
  const inlineBytes = treeBytes.byteLength <= inlineTreeMaxBytes ? treeBytes.byteLength : 0;
  return actionBytes.byteLength + commandBytes.byteLength + inlineBytes + overheadBytes;
}

export interface OfferedTree {
  /** False when no peer can have the task. */
  readonly offered: boolean;
  readonly release: () => void;
}

/** Makes sure that a thief finds what its grant does not carry; at once for all but huge trees. */
export function offerTree(
  action: EncodedAction | undefined,
  store: Pick<BlobStore, "put" | "pin">,
): OfferedTree | Promise<OfferedTree> {
  const release = () => {};
  if (action === undefined || grantBytesOf(action) > grantsMaxBytes) {
    return { offered: false, release };
  }
  if (action.treeBytes.byteLength <= inlineTreeMaxBytes) return { offered: true, release };
  return storeTree(action, store);
}

async function storeTree(
  { tree, treeBytes }: EncodedAction,
  store: Pick<BlobStore, "put" | "pin">,
): Promise<OfferedTree> {
  const pin = store.pin([tree]);
  const release = () => pin.release();
  try {
    await store.put(treeBytes);
    return { offered: true, release };
  } catch (error) {
    release();
    // Without room for it the task stays here, which is no failure.
    if (isMeshError(error, "no-space", "io")) return { offered: false, release: () => {} };
    throw error;
  }
}

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
    fresh: task.fresh === true,
    forget: task.forget === true,
  });
}
