/**
 * Failures: what can go wrong while the program itself is sound.
 *
 * Answers (a cache miss, an empty grant) are return values; bugs are failed
 * assertions, which nobody catches.
 */

/** Every way an operation can fail. Branch on this, never on the text. */
export type FailureCode =
  | "deadline" // the caller's time ran out
  | "cancelled" // somebody asked for it to stop
  | "peer-gone" // the connection or stream ended before the answer did
  | "blob-missing" // no reachable provider has the bytes
  | "blob-corrupt" // bytes arrived, but their digest is another
  | "limit" // a stated bound was reached: slow down or ask for less
  | "malformed" // a message, file or manifest is not what its format says
  | "refused" // the other side, or this node's own rules, said no
  | "wrong-mesh" // the other side belongs to another mesh, or the invite does
  | "no-mesh" // a mesh is required, and there is none
  | "in-use" // a port, data directory or file is held by somebody else
  | "no-space" // the disk is full
  | "io" // the disk, a socket or a process failed otherwise
  | "unsupported" // this node cannot do that kind of thing
  | "usage"; // the user asked for something that makes no sense

/** An operating failure. */
export class MeshError extends Error {
  override readonly name = "MeshError";
  readonly code: FailureCode;

  constructor(code: FailureCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export function isMeshError(error: unknown, ...codes: readonly FailureCode[]): error is MeshError {
  return error instanceof MeshError && (codes.length === 0 || codes.includes(error.code));
}

/** What an error says, for a log line or a person. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
