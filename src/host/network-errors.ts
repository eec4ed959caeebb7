/**
 * What libp2p's failures mean to the mesh: one closed code and a sentence for a person each.
 *
 * libp2p wraps most causes in an error of another kind and keeps only the text, so some of them
 * can be told apart by their text alone. The tests of the port hold these texts to the version in
 * use.
 */
import { MeshError, messageOf } from "../base/errors.ts";

/** Text of a handshake that could not be decrypted. Decides "wrong-mesh". */
const otherKey = /handshake stage \d validation fail|invalid chacha20poly1305/i;
const otherPeer = /does not match expected remote identity key/i;
const ownAddress = /dial self/i;
const outOfTime = /timeout|timed out|aborted/i;

/** Why `addr` could not be connected to. */
export function dialFailure(error: unknown, addr: string): MeshError {
  if (error instanceof MeshError) return error;
  const cause = firstCause(error);
  const text = messageOf(cause);
  const fail = (code: MeshError["code"], what: string): MeshError =>
    new MeshError(code, `${addr}: ${what}`, { cause });
  if (otherKey.test(text)) {
    return fail("wrong-mesh", "the node there holds another mesh key; check the invite");
  }
  if (otherPeer.test(text)) return fail("peer-gone", "another node answers there now");
  if (ownAddress.test(text)) return fail("refused", "that is this node itself");
  switch (codeOf(cause)) {
    case "ECONNREFUSED":
      return fail("peer-gone", "nobody listens there");
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return fail("peer-gone", "the host name is not known");
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return fail("peer-gone", "there is no way to that host");
  }
  if (cause instanceof Error && cause.name === "DialDeniedError") {
    return fail("refused", "this node hung up on that peer");
  }
  if (outOfTime.test(text)) return fail("deadline", "it did not finish the handshake in time");
  return fail("peer-gone", `the connection ended during the handshake: ${text}`);
}

/** Why this node cannot listen. */
export function listenFailure(error: unknown): MeshError {
  const text = messageOf(error);
  const inUse = /EADDRINUSE[^\n]*?(\S+:\d+)\s/.exec(`${text}\n`);
  if (inUse !== null) {
    return new MeshError(
      "in-use",
      `another program listens on ${inUse[1]}; choose another --listen address, or port 0`,
      { cause: error },
    );
  }
  const foreign = /EADDRNOTAVAIL[^\n]*?([^\s:]\S*)\s*\n/.exec(`${text}\n`);
  if (foreign !== null) {
    return new MeshError("usage", `${foreign[1]} is not an address of this machine`, {
      cause: error,
    });
  }
  if (text.includes("EACCES")) {
    return new MeshError("refused", "the system does not let this user listen on that port", {
      cause: error,
    });
  }
  return new MeshError("io", `cannot listen: ${text.split("\n")[0]}`, { cause: error });
}

/** Why no stream for `protocol` could be opened. */
export function openFailure(error: unknown, protocol: string): MeshError {
  if (error instanceof MeshError) return error;
  const name = error instanceof Error ? error.name : "";
  if (name === "UnsupportedProtocolError") {
    return new MeshError("unsupported", `the peer does not speak ${protocol}`, { cause: error });
  }
  if (name.startsWith("TooMany")) {
    return new MeshError("limit", `too many open ${protocol} streams to one peer`, {
      cause: error,
    });
  }
  return new MeshError("peer-gone", `${protocol}: ${messageOf(error)}`, { cause: error });
}

/** The first of several failed attempts: addresses are tried best first. */
function firstCause(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0
    ? firstCause(error.errors[0])
    : error;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}
