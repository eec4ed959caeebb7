/**
 * What goes wrong: drawn from the seed, some kinds often and others seldom (a swarm), after each kind
 * has had its turn once. A fault that finds nobody to strike draws another.
 *
 * Faults last; each makes good what it did when its time is over, or when the storm is.
 */
import type { SeededRandom } from "../../../src/sim/random.ts";
import { diskFaults } from "./disk-faults.ts";
import { networkFaults } from "./network-faults.ts";
import { processFaults } from "./process-faults.ts";
import { type Fault, type FaultContext, pause } from "./strike.ts";

export interface Storm {
  /** Strikes once; gives the kind. */
  next(): Promise<string | undefined>;
  /** Ends everything that lasts; resolves when it is undone. */
  calm(): Promise<void>;
  readonly fired: ReadonlyMap<string, number>;
  readonly kinds: readonly string[];
}

export interface StormOptions {
  /** Kinds that cannot be had on this machine. */
  readonly without: ReadonlySet<string>;
  /** Undefined: all of them. */
  readonly only: readonly string[] | undefined;
  readonly say: (line: string) => void;
}

export const faultKinds = (): readonly string[] => Object.keys(all);

const all: Readonly<Record<string, Fault>> = {
  ...processFaults,
  ...networkFaults,
  ...diskFaults,
  async liar({ liar }, random) {
    const what = await liar.lie(random);
    return what === undefined ? undefined : { what, forMs: 0 };
  },
};

const weights = [1, 2, 4];
const triesMax = 20;

export function createStorm(
  context: FaultContext,
  random: SeededRandom,
  { without, only, say }: StormOptions,
): Storm {
  const kinds = Object.keys(all).filter(
    (kind) => !without.has(kind) && (only?.includes(kind) ?? true),
  );
  const weighted = kinds.flatMap((kind) => {
    // Lies are of two dozen kinds themselves.
    const weight = kind === "liar" ? 6 : (weights[random.below(weights.length)] ?? 1);
    return Array.from({ length: weight }, () => kind);
  });
  const deck = shuffled(kinds, random);
  const fired = new Map<string, number>();
  const lasting = new Map<Promise<void>, AbortController>();
  let drawn = 0;

  async function strike(kind: string, draw: SeededRandom): Promise<boolean> {
    const done = await all[kind]?.(context, draw);
    if (done === undefined) return false;
    fired.set(kind, (fired.get(kind) ?? 0) + 1);
    const span = done.forMs > 0 ? ` for ${(done.forMs / 1000).toFixed(1)} s` : "";
    say(`fault ${kind}: ${done.what}${span}`);
    if (done.undo !== undefined) last(kind, done.undo, done.forMs);
    return true;
  }

  function last(kind: string, undo: () => Promise<void> | void, forMs: number): void {
    const over = new AbortController();
    const lasts = (async () => {
      await pause(forMs, over.signal);
      try {
        await undo();
      } catch (error) {
        say(`fault ${kind} could not be undone: ${String(error)}`);
        throw error;
      }
    })();
    lasting.set(lasts, over);
    lasts.then(
      () => lasting.delete(lasts),
      () => {},
    );
  }

  return {
    fired,
    kinds,
    async next() {
      for (let tries = 0; tries < triesMax; tries += 1) {
        // A generator for each draw: what one fault draws does not change the next.
        drawn += 1;
        const draw = random.fork(`fault ${drawn}`);
        const kind = deck.shift() ?? weighted[draw.below(weighted.length)] ?? "";
        if (await strike(kind, draw)) return kind;
        // Its turn will come when there is somebody to strike.
        if (!fired.has(kind)) deck.push(kind);
      }
      return undefined;
    },
    async calm() {
      for (const over of lasting.values()) over.abort();
      const undone = await Promise.allSettled(lasting.keys());
      lasting.clear();
      for (const one of undone) if (one.status === "rejected") throw one.reason;
    },
  };
}

function shuffled<T>(items: readonly T[], random: SeededRandom): T[] {
  const rest = [...items];
  return items.flatMap(() => rest.splice(random.below(rest.length), 1));
}
