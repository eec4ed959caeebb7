/**
 * How much of a build waits for a task: the time to the end along the longest chain behind it.
 *
 * Nobody tells the owner a build's graph. It is read off the data: who reads what another task of
 * the same build has written comes behind it. What one build shows orders the next one.
 * Source: T. C. Hu, "Parallel Sequencing and Assembly Line Problems", 1961 (highest level first).
 */
import { createRecentMap } from "../base/bounded.ts";
import type { Durations } from "./durations.ts";

/** What one task reads and writes, as absolute paths. */
export interface Flow {
  readonly build: string;
  readonly kind: string;
  readonly label: string;
  readonly reads: Iterable<string>;
  readonly writes: readonly string[];
}

export interface Urgency {
  /** Notes who comes behind whom. Call once for each task, when it is submitted. */
  note(flow: Flow): void;
  /** From the start of the task to the end of the last one behind it, in ms; 0: nothing is known. */
  chainMs(kind: string, label: string): number;
  /** As it was noted in an earlier life. */
  restore(kind: string, label: string, reader: readonly [kind: string, label: string]): void;
  /** Who reads what whom has written. */
  edges(): Iterable<readonly [writer: Name, reader: Name]>;
}

type Name = readonly [kind: string, label: string];

const buildsMax = 16;
const writesMax = 65_536;
const labelsMax = 16_384;
/** A generated header may have thousands of readers: the longest chain is nearly always among these. */
const readersMax = 256;
/** Longer chains are not followed to their end. */
const depthMax = 1000;
/** Chains are added up anew after so many looks: durations change all the time. */
const freshLooks = 64;

interface Node {
  readonly kind: string;
  readonly label: string;
  readonly readers: Set<string>;
}

export function createUrgency(durations: Pick<Durations, "expectedMs">): Urgency {
  const builds = createRecentMap<string, ReturnType<typeof createRecentMap<string, string>>>(
    buildsMax,
  );
  const nodes = createRecentMap<string, Node>(labelsMax);
  const chains = new Map<string, number>();
  let looks = 0;

  function nodeOf(kind: string, label: string): Node {
    const key = keyOf(kind, label);
    const known = nodes.get(key) ?? { kind, label, readers: new Set<string>() };
    nodes.set(key, known);
    return known;
  }

  /** Depth first; a chain that leads back into itself, as of a renamed file, is cut there. */
  function chainOf(key: string, depth: number): number {
    const known = chains.get(key);
    if (known !== undefined) return known;
    const node = nodes.get(key);
    if (node === undefined) return 0;
    const ownMs = durations.expectedMs(node.kind, node.label);
    // Nothing behind it: not worth remembering, and so never out of date.
    if (node.readers.size === 0 || depth >= depthMax) return ownMs;
    chains.set(key, 0);
    let behindMs = 0;
    for (const reader of node.readers) behindMs = Math.max(behindMs, chainOf(reader, depth + 1));
    chains.set(key, ownMs + behindMs);
    return ownMs + behindMs;
  }

  return {
    note({ build, kind, label, reads, writes }) {
      const written = builds.get(build) ?? createRecentMap<string, string>(writesMax);
      builds.set(build, written);
      const key = keyOf(kind, label);
      for (const path of reads) {
        const writer = written.get(path);
        const readers = writer === undefined ? undefined : nodes.get(writer)?.readers;
        if (writer === key || readers === undefined || readers.has(key)) continue;
        if (readers.size < readersMax) readers.add(key);
        chains.clear();
      }
      nodeOf(kind, label);
      for (const path of writes) written.set(path, key);
    },
    restore(kind, label, reader) {
      nodeOf(...reader);
      const { readers } = nodeOf(kind, label);
      if (readers.size < readersMax) readers.add(keyOf(...reader));
      chains.clear();
    },
    *edges() {
      for (const [, { kind, label, readers }] of nodes.entries())
        for (const reader of readers) {
          const node = nodes.get(reader);
          if (node !== undefined)
            yield [
              [kind, label],
              [node.kind, node.label],
            ];
        }
    },
    chainMs(kind, label) {
      looks += 1;
      if (looks % freshLooks === 0) chains.clear();
      const key = keyOf(kind, label);
      return nodes.get(key) === undefined ? durations.expectedMs(kind, label) : chainOf(key, 0);
    },
  };
}

function keyOf(kind: string, label: string): string {
  return `${kind}\0${label}`;
}
