/**
 * How fast one peer answers: bytes a millisecond, round trip, and for how long it has been silent.
 */
import type { Clock } from "../host/host.ts";

export interface Meter {
  /** Something is wanted where nothing was: silence counts from now. */
  begin(): void;
  /** A question left just now. */
  asked(): void;
  /** Something arrived, payload or not. */
  heard(sizeBytes: number): void;
  /** Time without any answer since something was wanted. Only meaningful while something is. */
  silentMs(): number;
  /** Silence starts again: this node itself was stopped, or let the peer wait. */
  forgive(): void;
  /** Smoothed; a guess before the first measurement. */
  bytesPerMs(): number;
  rttMs(): number;
  /** Counts as slow until it has delivered again. */
  demote(): void;
}

/** 50 MB/s: a fresh peer is tried before a slow one, and after a fast one. */
const bytesPerMsGuess = 50_000;
const rttMsGuess = 5;
/** Shorter spans say more about timers than about the network. */
const sampleMs = 20;
/** A silent peer is slower than any peer that answers. */
const bytesPerMsDemoted = 1;

export function createMeter({ clock }: { readonly clock: Clock }): Meter {
  let bytesPerMs: number | undefined;
  let rttMs: number | undefined;
  let demoted = false;
  let lastMs = clock.nowMs();
  let sampleFromMs = lastMs;
  let sampleBytes = 0;
  let askedMs: number | undefined;

  return {
    begin() {
      lastMs = clock.nowMs();
      sampleFromMs = lastMs;
      sampleBytes = 0;
      askedMs = undefined;
    },
    asked() {
      // Only a question to a peer that has nothing else to do shows how long an answer takes.
      if (sampleBytes === 0) askedMs ??= clock.nowMs();
    },
    heard(sizeBytes) {
      lastMs = clock.nowMs();
      if (askedMs !== undefined) {
        const sample = lastMs - askedMs;
        rttMs = rttMs === undefined ? sample : 0.8 * rttMs + 0.2 * sample;
        askedMs = undefined;
      }
      if (sizeBytes === 0) return;
      demoted = false;
      sampleBytes += sizeBytes;
      const spanMs = lastMs - sampleFromMs;
      if (spanMs < sampleMs) return;
      const sample = sampleBytes / spanMs;
      bytesPerMs = bytesPerMs === undefined ? sample : 0.7 * bytesPerMs + 0.3 * sample;
      sampleFromMs = lastMs;
      sampleBytes = 0;
    },
    silentMs: () => clock.nowMs() - lastMs,
    forgive() {
      lastMs = clock.nowMs();
    },
    bytesPerMs: () => (demoted ? bytesPerMsDemoted : (bytesPerMs ?? bytesPerMsGuess)),
    rttMs: () => rttMs ?? rttMsGuess,
    demote() {
      demoted = true;
    },
  };
}
