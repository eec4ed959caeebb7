/** Bad weather on the way to a node, and what it does to the connections there. */
import type { SeededRandom } from "../../../src/sim/random.ts";
import { type Direction, fair, type Weather } from "./proxy.ts";
import { type Fault, type FaultContext, pick, type Strike } from "./strike.ts";

const lastsMinMs = 1_000;
const lastsMaxMs = 9_000;

export const networkFaults: Readonly<Record<string, Fault>> = {
  latency: (context, random) => weather(context, random, "", { latencyMs: random.between(5, 250) }),
  jitter: (context, random) =>
    weather(context, random, "", { latencyMs: 2, jitterMs: random.between(20, 500) }),
  throttle: (context, random) =>
    weather(context, random, "", { bytesPerSecond: random.between(20, 500) * 1024 }),
  "black-hole": (context, random) => weather(context, random, "", { lost: ["in", "out"] }),
  "one-way"(context, random) {
    const lost: Direction = random.chance(0.5) ? "in" : "out";
    return weather(context, random, `${lost} lost at `, { lost: [lost] });
  },
  reset(context, random) {
    const picked = pick(context, random, "network");
    if (picked === undefined) return undefined;
    const count = picked.member.proxy.reset();
    picked.free();
    if (count === 0) return undefined;
    return { what: `${count} connections of ${picked.member.name}`, forMs: 0 };
  },
  "half-open"(context, random) {
    const picked = pick(context, random, "network");
    if (picked === undefined) return undefined;
    const { member, free } = picked;
    const gone = random.chance(0.5) ? "node" : "peer";
    const count = member.proxy.halveAll(gone);
    if (count === 0) {
      free();
      return undefined;
    }
    return {
      what: `${count} connections of ${member.name}, the ${gone}'s end is gone`,
      forMs: random.between(lastsMinMs, lastsMaxMs),
      undo() {
        member.proxy.set(fair);
        free();
      },
    };
  },
};

function weather(
  context: FaultContext,
  random: SeededRandom,
  before: string,
  bad: Partial<Weather>,
): Strike | undefined {
  const picked = pick(context, random, "network");
  if (picked === undefined) return undefined;
  const { member, free } = picked;
  member.proxy.set({ ...fair, ...bad });
  return {
    what: `${before}${member.name}`,
    forMs: random.between(lastsMinMs, lastsMaxMs),
    undo() {
      member.proxy.set(fair);
      free();
    },
  };
}
