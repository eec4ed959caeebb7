/** Nodes that die, freeze, leave, or whose wall clock jumps. */
import type { SeededRandom } from "../../../src/sim/random.ts";
import type { Member } from "./fleet.ts";
import { descendantsOf } from "./processes.ts";
import { type Fault, type FaultContext, pause, pick, type Strike } from "./strike.ts";

const stopMinMs = 100;
const stopMaxMs = 9_000;
const deadMaxMs = 6_000;
const hourMs = 3_600_000;
const midBuildWaitMs = 10_000;
const lookMs = 20;

export const processFaults: Readonly<Record<string, Fault>> = {
  kill: (context, random) => end(context, random, "SIGKILL", ({ role }) => role === "worker"),
  leave: (context, random) => end(context, random, "SIGTERM", ({ role }) => role === "worker"),

  /** In mid-build: the build has to end by itself. */
  async "kill-owner"(context, random) {
    const { fleet, workload, signal } = context;
    const builder = fleet.members.find(({ role }) => role === "builds");
    if (builder === undefined || builder.struck.has("process")) return undefined;
    const before = workload.progressOf(builder);
    const endMs = performance.now() + midBuildWaitMs;
    while (!workload.isRunning(builder) || workload.progressOf(builder) <= before) {
      if (signal.aborted || performance.now() > endMs) return undefined;
      await pause(lookMs, signal);
    }
    return end(context, random, "SIGKILL", (member) => member === builder);
  },

  stop(context, random) {
    const picked = pick(context, random, "process", (member) => member.node() !== undefined);
    const node = picked?.member.node();
    if (picked === undefined || node === undefined) return undefined;
    const { member, free } = picked;
    node.child.kill("SIGSTOP");
    return {
      what: member.name,
      forMs: random.between(stopMinMs, stopMaxMs),
      undo() {
        node.child.kill("SIGCONT");
        free();
      },
    };
  },

  async "clock-jump"(context, random) {
    const picked = pick(context, random, "clock");
    if (picked === undefined) return undefined;
    const { member, free } = picked;
    const hours = [-25 * 24, -1, -0.01, 0.01, 1, 25 * 24][random.below(6)] ?? 1;
    await member.setClock(hours * hourMs);
    return {
      what: `${member.name} by ${hours} h`,
      forMs: random.between(2_000, 20_000),
      async undo() {
        await member.setClock(0);
        free();
      },
    };
  },
};

async function end(
  context: FaultContext,
  random: SeededRandom,
  how: "SIGKILL" | "SIGTERM",
  fits: (member: Member) => boolean,
): Promise<Strike | undefined> {
  const picked = pick(
    context,
    random,
    "process",
    (member) => fits(member) && member.node() !== undefined,
  );
  const node = picked?.member.node();
  if (picked === undefined || node === undefined) return undefined;
  const { member, free } = picked;
  if (how === "SIGKILL") {
    context.orphans.push(...(await descendantsOf(node.child.pid)));
    member.killed.add(node);
  }
  node.child.kill(how);
  return {
    what: member.name,
    forMs: random.between(0, deadMaxMs),
    async undo() {
      await node.exited;
      if (!context.signal.aborted) await member.restart();
      free();
    },
  };
}
