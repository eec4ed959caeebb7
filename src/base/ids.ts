/** Branded names of the things that are not bytes. */

/** A libp2p peer id in its base58 text form. */
export type PeerId = string & { readonly __peer: unique symbol };

/** One task of one owner: unique within the mesh, meaningless elsewhere. */
export type TaskId = string & { readonly __task: unique symbol };

/** Trusts that `text` names a peer: only for parsers and the network port. */
export function asPeerId(text: string): PeerId {
  return text as PeerId;
}

export function asTaskId(text: string): TaskId {
  return text as TaskId;
}
