/** What checkers found. Collected rather than thrown: the first is the cause, the rest says how. */
import type { SimMesh, SimNode } from "./mesh.ts";

export interface Violations {
  readonly lines: readonly string[];
  say(invariant: string, node: Pick<SimNode, "name" | "life">, what: string): void;
}

/** Of one kind and life: what follows from the first few says little. */
const timesMax = 3;

export function createViolations({ simulation }: Pick<SimMesh, "simulation">): Violations {
  const lines: string[] = [];
  const said = new Map<string, number>();
  return {
    lines,
    say(invariant, { name, life }, what) {
      const where = `${name} (life ${life}): ${invariant}`;
      const times = (said.get(where) ?? 0) + 1;
      said.set(where, times);
      if (times <= timesMax) lines.push(`${simulation.nowMs().toFixed(1)} ms ${where}: ${what}`);
    },
  };
}
