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
  /** The speed of the way while bytes flow; higher than `bytesPerMs` while the window is small. */
  peakBytesPerMs(): number;
  rttMs(): number;
  /** Counts as slow until it has delivered again. */
  demote(): void;
}

/** 50 MB/s: a fresh peer is tried before a slow one, and after a fast one. */
const bytesPerMsGuess = 50_000;
const rttMsGuess = 5;
/** Shorter spans say more about timers than about the network. */
const sampleMs = 20;
/** Arrivals further apart belong to two bursts: between them the provider waited for credit. */
const burstGapMs = 5;
const burstMinMs = 2;
const burstMinBytes = 512 * 1024;
/** What a peak counts for by the time of the next one. */
const peakDecay = 0.9;
/** A silent peer is slower than any peer that answers. */
const bytesPerMsDemoted = 1;

export function createMeter({ clock }: { readonly clock: Clock }): Meter {
  let bytesPerMs: number | undefined;
  let rttMs: number | undefined;
  let demoted = false;
  let peakBytesPerMs = 0;
  let burstFromMs = 0;
  let burstBytes = 0;
  let lastMs = clock.nowMs();
  let sampleFromMs = lastMs;
  let sampleBytes = 0;
  /** Nothing was wanted before: only then does an answer show the way there and back. */
  let idle = true;
  let askedMs: number | undefined;

  function burst(nowMs: number, sizeBytes: number): void {
    if (nowMs - lastMs > burstGapMs) {
      // How long its first bytes were on the way nobody knows, so they do not count.
      burstFromMs = nowMs;
      burstBytes = 0;
      return;
    }
    burstBytes += sizeBytes;
    const spanMs = nowMs - burstFromMs;
    if (spanMs < burstMinMs || burstBytes < burstMinBytes) return;
    peakBytesPerMs = Math.max(peakDecay * peakBytesPerMs, burstBytes / spanMs);
    burstFromMs = nowMs;
    burstBytes = 0;
  }

  return {
    begin() {
      lastMs = clock.nowMs();
      sampleFromMs = lastMs;
      sampleBytes = 0;
      idle = true;
      askedMs = undefined;
    },
    asked() {
      if (idle) askedMs ??= clock.nowMs();
    },
    heard(sizeBytes) {
      const nowMs = clock.nowMs();
      burst(nowMs, sizeBytes);
      lastMs = nowMs;
      if (askedMs !== undefined) {
        const sample = lastMs - askedMs;
        // A shorter one is nearer to the truth: nothing makes an answer come too early.
        rttMs = rttMs === undefined || sample < rttMs ? sample : 0.8 * rttMs + 0.2 * sample;
        askedMs = undefined;
      }
      idle = false;
      if (sizeBytes === 0) return;
      demoted = false;
      sampleBytes += sizeBytes;
      const spanMs = lastMs - sampleFromMs;
      if (spanMs < sampleMs) return;
      const sample = sampleBytes / spanMs;
      // Quicker up than down: the window follows, and a small one keeps the rate low.
      const weight = sample > (bytesPerMs ?? 0) ? 0.6 : 0.3;
      bytesPerMs = bytesPerMs === undefined ? sample : mix(bytesPerMs, sample, weight);
      sampleFromMs = lastMs;
      sampleBytes = 0;
    },
    silentMs: () => clock.nowMs() - lastMs,
    forgive() {
      lastMs = clock.nowMs();
    },
    bytesPerMs: () => (demoted ? bytesPerMsDemoted : (bytesPerMs ?? bytesPerMsGuess)),
    peakBytesPerMs: () => Math.max(peakBytesPerMs, bytesPerMs ?? 0),
    rttMs: () => rttMs ?? rttMsGuess,
    demote() {
      demoted = true;
    },
  };
}

function mix(before: number, sample: number, weight: number): number {
  return (1 - weight) * before + weight * sample;
}
