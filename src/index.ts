/** The public API: a node as a library. Everything else is internal and may change. */
export type { Digest } from "./base/digest.ts";
export { type FailureCode, MeshError } from "./base/errors.ts";
export type { MeshEvent } from "./base/events.ts";
export type { PeerId, TaskId } from "./base/ids.ts";
export type { MeshNode } from "./node/node.ts";
export { type OpenNode, type OpenOptions, openNode } from "./node/open.ts";
export type { Outcome, Owner, Task } from "./work/task.ts";
