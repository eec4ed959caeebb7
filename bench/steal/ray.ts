/**
 * Ray on this machine, where `python3` has it (`pip install ray`): tasks that do nothing, for
 * comparison. It hears of nothing but this machine, and ends with the process that started it.
 */
import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { endGroup } from "../command.ts";

export interface Ray {
  readonly version: string;
  /** Submits so many at once and waits for all. */
  tasksPerSecond(tasks: number): Promise<number>;
  stop(): Promise<void>;
}

const probeMaxMs = 30_000;
const stopMaxMs = 10_000;

/** Answers each line, a number of tasks, with tasks per second. */
const script = `
import os, sys, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init(num_cpus=int(sys.argv[1]), include_dashboard=False, _node_ip_address="127.0.0.1",
         object_store_memory=100 * 1024 * 1024, logging_level="error", log_to_driver=False)
@ray.remote
def nothing():
    pass
for line in sys.stdin:
    tasks = int(line)
    start = time.perf_counter()
    ray.get([nothing.remote() for _ in range(tasks)])
    print("rate", tasks / (time.perf_counter() - start), flush=True)
ray.shutdown()
`;

/** Undefined where there is none. */
export function findRay(slots: number): Ray | undefined {
  const find = ["-c", "import ray; print(ray.__version__)"];
  const probe = spawnSync("python3", find, { encoding: "utf8", timeout: probeMaxMs });
  if (probe.status !== 0) return undefined;
  const child = spawn("python3", ["-c", script, String(slots)], {
    stdio: ["pipe", "pipe", "ignore"],
    detached: true,
  });
  const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
  let answer = { give: (_rate: number) => {}, fail: (_error: Error) => {} };
  const failure = new Error("Ray ended by itself");
  child.once("error", (error) => answer.fail(error));
  child.once("exit", () => answer.fail(failure));
  createInterface(child.stdout).on("line", (line) => {
    const [, rate] = /^rate ([\d.]+)/.exec(line) ?? [];
    if (rate !== undefined) answer.give(Number(rate));
  });
  return {
    version: probe.stdout.trim(),
    tasksPerSecond(tasks) {
      return new Promise((give, fail) => {
        if (child.exitCode !== null) return fail(failure);
        answer = { give, fail };
        child.stdin.write(`${tasks}\n`);
      });
    },
    async stop() {
      answer = { give: () => {}, fail: () => {} };
      child.stdin.end();
      const late = setTimeout(() => endGroup(child.pid), stopMaxMs);
      await exited;
      clearTimeout(late);
    },
  };
}
