/**
 * Brings one peer's answer to one shim: outputs into place, diagnostics to the screen, in parts as
 * they come or all at the end.
 *
 * Several attempts may speak one after the other, since a thief can die half-way. What one has
 * shown stays shown: the next must repeat it before anything new is passed on. It does not know
 * leases: the owner calls it only for the attempt that holds one.
 */
import type { ActionOutcome, OutputBlob, Progress } from "../action/action.ts";
import { concatBytes } from "../base/bytes.ts";
import { type Digest, emptyDigest, sizeBytesOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import type { BlobStore } from "../blob/store.ts";
import { type PlaceDeps, placeOutputs } from "./place.ts";
import type { ActionPlan } from "./plan.ts";
import type { ShimLink } from "./shim-server.ts";

export interface DeliveryDeps extends PlaceDeps {
  readonly store: Pick<BlobStore, "copyTo" | "read" | "pin">;
  readonly exchange: Pick<Exchange, "fetch">;
}

export interface Delivery {
  /**
   * Puts a successful outcome in place; see `Task.commit`. `providers` are asked for its blobs;
   * `checked` says that the plan's check has been passed already.
   */
  commit(
    outcome: ActionOutcome,
    providers: readonly PeerId[],
    checked: boolean,
    signal: AbortSignal,
  ): Promise<void>;
  /** See `Task.onProgress`. */
  onProgress(progress: Progress, peer: PeerId): void;
  /** Resolves when the shim has taken everything, at once if nothing was sent. */
  flushed(): Promise<void>;
}

/** Diagnostics longer than this are made here, where they need not travel. */
const outputMaxBytes = 16 * 1024 * 1024;

/** A peer that claims to have written more in all is not even asked for it. */
const outputsMaxBytes = 2 * 1024 ** 3;

/** Whatever a plan's check takes into memory: dependency files have a few kilobytes. */
const checkedMaxBytes = 64 * 1024 * 1024;

/** Parts of an answer that wait for the parts before them. With more, nothing is shown early. */
const pendingMaxBytes = 16 * 1024 * 1024;
const pendingMax = 10_000;
/** What one announced output weighs besides its path. */
const announcedBytes = 256;

export function createDelivery(
  deps: DeliveryDeps,
  plan: ActionPlan,
  umask: number,
  link: Pick<ShimLink, "write" | "exit">,
  signal: AbortSignal,
): Delivery {
  const allowed = new Set(plan.spec.outputPaths);
  const placed = new Map<string, Digest>();
  let shown: Uint8Array = new Uint8Array(0);
  let stream: EarlyStream | undefined;
  let early: Promise<void> = Promise.resolve();
  /** Set once something has come early. */
  let stopEarly: AbortController | undefined;
  let earlyIsOff = false;
  let pending = { count: 0, bytes: 0 };
  let exiting: Promise<void> = Promise.resolve();

  async function place(outputs: readonly OutputBlob[], during: AbortSignal): Promise<void> {
    // What is there already stays untouched: somebody may be reading it.
    const missing = outputs.filter(({ path, digest }) => placed.get(path) !== digest);
    await placeOutputs(deps, missing, umask, during);
    for (const { path, digest } of missing) placed.set(path, digest);
  }

  async function check(outputs: readonly OutputBlob[]): Promise<void> {
    const digests = new Map(outputs.map(({ path, digest }) => [path, digest]));
    await plan.check?.(async (path) => {
      const digest = digests.get(path);
      if (digest === undefined) return undefined;
      atMost(sizeBytesOf(digest), checkedMaxBytes, `wrote ${path}`);
      return bytesOf(deps.store, digest);
    });
  }

  async function showEarly(
    { stderr, outputs }: Progress,
    peer: PeerId,
    during: AbortSignal,
  ): Promise<void> {
    stream = continueStream(stream, peer, stderr, outputs);
    const rest = beyond(stream.stderr, shown);
    const pathsAreFine = stream.outputs.every(({ path }) => allowed.has(path));
    const fits =
      stream.stderr.byteLength <= outputMaxBytes && totalBytes(stream.outputs) <= outputsMaxBytes;
    if (rest === undefined || !pathsAreFine || !fits) {
      earlyIsOff = true;
      return;
    }
    // Everything announced so far, in case an earlier part could not be fetched.
    const needed = known(stream.outputs.filter(({ path, digest }) => placed.get(path) !== digest));
    const pin = deps.store.pin(needed);
    try {
      await deps.exchange.fetch(needed, [peer], during);
      // Others build on it from now on, so a bad answer must be known as one before.
      await check(stream.outputs);
      await place(stream.outputs, during);
    } finally {
      pin.release();
    }
    if (rest.byteLength === 0) return;
    link.write(2, rest);
    shown = stream.stderr;
  }

  async function deliver(
    outcome: ActionOutcome,
    checked: boolean,
    during: AbortSignal,
  ): Promise<void> {
    if (!checked) await check(outcome.outputs);
    const stdout = await bytesOf(deps.store, outcome.stdout);
    const stderr = await bytesOf(deps.store, outcome.stderr);
    const rest = beyond(stderr, shown);
    if (rest === undefined || stderr.byteLength < shown.byteLength) {
      throw new MeshError("refused", "its diagnostics differ from what an earlier attempt printed");
    }
    await place(outcome.outputs, during);
    exiting = link.exit(0, stdout, rest);
    // The task is done once its outputs are there; a slow screen must not hold it up.
    exiting.catch(() => {});
  }

  return {
    onProgress(progress, peer) {
      const weight = weightOf(progress);
      // Without one part, those after it make no sense.
      if (pending.count >= pendingMax || pending.bytes + weight > pendingMaxBytes)
        earlyIsOff = true;
      if (earlyIsOff) return;
      pending = { count: pending.count + 1, bytes: pending.bytes + weight };
      stopEarly ??= new AbortController();
      const during = AbortSignal.any([signal, stopEarly.signal]);
      early = early.then(async () => {
        if (!earlyIsOff && !during.aborted) await showEarly(progress, peer, during);
      });
      // Early delivery is a favour: whatever goes wrong with it, the end of the attempt decides.
      early = early
        .catch(() => {})
        .then(() => {
          pending = { count: pending.count - 1, bytes: pending.bytes - weight };
        });
    },
    async commit(outcome, providers, checked, during) {
      if (stopEarly !== undefined) {
        stopEarly.abort(new MeshError("cancelled", "the whole answer is here"));
        await early;
        stopEarly = undefined;
      }
      if (outcome.exitCode !== 0) {
        throw new MeshError("refused", `it ended with exit code ${outcome.exitCode}`);
      }
      checkPaths(outcome.outputs, allowed, plan.required);
      for (const digest of [outcome.stdout, outcome.stderr])
        atMost(sizeBytesOf(digest), outputMaxBytes, "printed");
      atMost(totalBytes(outcome.outputs), outputsMaxBytes, "wrote");
      const streams = [{ digest: outcome.stdout }, { digest: outcome.stderr }];
      const needed = known([...outcome.outputs, ...streams]);
      const pin = deps.store.pin(needed);
      try {
        await deps.exchange.fetch(needed, providers, during);
        await deliver(outcome, checked, during);
      } finally {
        pin.release();
      }
    },
    flushed: () => exiting,
  };
}

/** What one attempt has printed and announced so far. */
interface EarlyStream {
  readonly peer: PeerId;
  readonly stderr: Uint8Array;
  readonly outputs: readonly OutputBlob[];
}

/** A compiler announces an output once: who does so again has started anew. */
function continueStream(
  before: EarlyStream | undefined,
  peer: PeerId,
  stderr: Uint8Array,
  outputs: readonly OutputBlob[],
): EarlyStream {
  const announced = new Set(before?.outputs.map(({ path }) => path));
  if (before?.peer !== peer || outputs.some(({ path }) => announced.has(path))) {
    return { peer, stderr, outputs };
  }
  return {
    peer,
    stderr: concatBytes([before.stderr, stderr]),
    outputs: [...before.outputs, ...outputs],
  };
}

/** What `all` says beyond `shown`: nothing when it is still behind, undefined when they disagree. */
function beyond(all: Uint8Array, shown: Uint8Array): Uint8Array | undefined {
  const both = Math.min(all.byteLength, shown.byteLength);
  if (Buffer.compare(all.subarray(0, both), shown.subarray(0, both)) !== 0) return undefined;
  return all.subarray(both);
}

/** The empty blob is never fetched. */
function known(blobs: readonly { readonly digest: Digest }[]): readonly Digest[] {
  return [...new Set(blobs.map(({ digest }) => digest))].filter((digest) => digest !== emptyDigest);
}

async function bytesOf(store: Pick<BlobStore, "read">, digest: Digest): Promise<Uint8Array> {
  return digest === emptyDigest ? new Uint8Array(0) : store.read(digest);
}

/** A digest says how large its blob is, so this needs no byte of it. */
function totalBytes(outputs: readonly OutputBlob[]): number {
  return outputs.reduce((sum, { digest }) => sum + sizeBytesOf(digest), 0);
}

function atMost(bytes: number, maxBytes: number, what: string): void {
  if (bytes <= maxBytes) return;
  throw new MeshError("limit", `it ${what}: ${bytes} bytes, more than ${maxBytes}`);
}

function weightOf({ stderr, outputs }: Progress): number {
  return outputs.reduce((sum, { path }) => sum + path.length + announcedBytes, stderr.byteLength);
}

/** A peer may write what the plan names, each once, and nothing else; some of it, it must write. */
function checkPaths(
  outputs: readonly OutputBlob[],
  allowed: ReadonlySet<string>,
  required: readonly string[],
): void {
  const seen = new Set<string>();
  for (const { path } of outputs) {
    if (!allowed.has(path)) throw new MeshError("refused", `it wrote ${path}, which is no output`);
    if (seen.has(path)) throw new MeshError("malformed", `it names the output ${path} twice`);
    seen.add(path);
  }
  const lacking = required.find((path) => !seen.has(path));
  if (lacking !== undefined) throw new MeshError("refused", `it did not write ${lacking}`);
}
