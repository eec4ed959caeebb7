/**
 * What a mesh costs that has nothing to do: control messages and CPU time of eight nodes that know
 * each other, each a process of its own.
 *
 * Both are read twice around the same pause; the questions for them fall outside of it.
 */
import { createWorld, type LiveNode, startMesh, type World } from "../../chaos-tests/live/nodes.ts";
import { atMost, type Bench, rowOf } from "../bench.ts";
import { cpuOfThreadsMs, cpuOfTreeMs } from "../command.ts";

const nodes = 8;
const pauseS = 30;
const restS = 5;
const messagesMax = 1;
const cpuMaxPercent = 0.5;

export const idleMesh: Bench = {
  name: "idle-mesh",
  about: "control messages and CPU time of eight nodes without work",
  async run({ runs = 1, say, signal }) {
    const world = await createWorld();
    try {
      const mesh = await startMesh(world, nodes);
      const messages: number[] = [];
      const cpu: number[] = [];
      const treeCpu: number[] = [];
      // What starting and meeting have left to do.
      await sleepS(restS, signal);
      for (let run = 0; run < runs; run += 1) {
        const sentBefore = await sentOf(world, mesh);
        await sleepS(1, signal);
        const startMs = performance.now();
        const before = mesh.map(cpuOf);
        await sleepS(pauseS, signal);
        const after = mesh.map(cpuOf);
        const wallMs = performance.now() - startMs;
        await sleepS(1, signal);
        const sentAfter = await sentOf(world, mesh);
        const sentS = (performance.now() - startMs) / 1000 + 1;
        for (const at of mesh.keys()) {
          messages.push(((sentAfter[at] ?? 0) - (sentBefore[at] ?? 0)) / sentS);
          cpu.push((((after[at]?.ownMs ?? 0) - (before[at]?.ownMs ?? 0)) / wallMs) * 100);
          treeCpu.push((((after[at]?.treeMs ?? 0) - (before[at]?.treeMs ?? 0)) / wallMs) * 100);
        }
        say(`${run + 1} of ${runs}: ${messages.slice(-nodes).map(shortly).join(" ")} messages/s`);
      }
      const sent = rowOf("control messages of a node", "per s", messages);
      const used = rowOf("CPU of a node", "%", cpu);
      return {
        rows: [sent, used, rowOf("with its children, in steps of 10 ms", "%", treeCpu)],
        checks: [
          atMost("control messages of the busiest node", sent.max, messagesMax, "per s"),
          atMost("CPU of the busiest node", used.max, cpuMaxPercent, "%"),
        ],
        notes: [`${nodes} nodes for ${pauseS} s, each knows all others; 100 % is one core`],
      };
    } finally {
      await world.close();
    }
  },
};

interface Cpu {
  readonly ownMs: number;
  readonly treeMs: number;
}

function cpuOf({ child: { pid = 0 } }: LiveNode): Cpu {
  const { mainMs, engineMs, poolMs } = cpuOfThreadsMs(pid);
  return { ownMs: mainMs + engineMs + poolMs, treeMs: cpuOfTreeMs(pid) };
}

async function sentOf(world: World, mesh: readonly LiveNode[]): Promise<readonly number[]> {
  const sent: number[] = [];
  for (const node of mesh) {
    const { stdout } = await world.mesh(node, ["status", "--json"]);
    const { counters } = JSON.parse(stdout) as { counters: { controlMessagesSent: number } };
    sent.push(counters.controlMessagesSent);
  }
  return sent;
}

async function sleepS(seconds: number, signal: AbortSignal): Promise<void> {
  for (let left = seconds * 4; left > 0; left -= 1) {
    signal.throwIfAborted();
    await new Promise((wake) => setTimeout(wake, 250));
  }
}

function shortly(value: number): string {
  return value.toFixed(2);
}
