import { expect, test } from "vitest";
import { textOf, utf8 } from "../base/bytes.ts";
import type { RunSpec } from "../host/host.ts";
import type { SimCommands } from "./processes.ts";
import { createSimulation } from "./simulation.ts";

const commands: SimCommands = (spec) => {
  switch (spec.argv[0]) {
    case "compile":
      return {
        durationMs: 100,
        async finish(disk) {
          const source = textOf(await disk.read(`${spec.cwd}/in`));
          await disk.writeAtomic(`${spec.cwd}/out`, utf8(source.toUpperCase()), {
            mode: 0o644,
            sync: false,
          });
          return { exitCode: 1, stderr: utf8("a warning") };
        },
      };
    case "idle":
      return { durationMs: 1000 };
    default:
      return undefined;
  }
};

function spec(argv: readonly [string, ...string[]], more: Partial<RunSpec> = {}): RunSpec {
  return { argv, env: {}, cwd: "", timeoutMs: 10_000, outputMaxBytes: 100, ...more };
}

const never = (): AbortSignal => new AbortController().signal;

test("a command works on its host's disk, when its time has passed", async () => {
  const simulation = createSimulation(1, { commands });
  const { disk, processes } = simulation.addHost("a");
  const heard: string[] = [];
  const scenario = async () => {
    await disk.writeAtomic("/in", utf8("text"), { mode: 0o644, sync: false });
    const startMs = simulation.nowMs();
    const result = await processes.run(
      spec(["compile"], { onStderr: (bytes) => heard.push(textOf(bytes)) }),
      never(),
    );
    expect(simulation.nowMs() - startMs).toBeGreaterThanOrEqual(100);
    expect(result).toMatchObject({ exitCode: 1, wallMs: 100, timedOut: false });
    expect(textOf(result.stderr)).toBe("a warning");
    expect(textOf(await disk.read("/out"))).toBe("TEXT");
    const cut = await processes.run(spec(["compile"], { outputMaxBytes: 3 }), never());
    expect(cut).toMatchObject({ exitCode: 137, outputOverflow: true, stderr: utf8("a w") });
  };
  await simulation.finish(scenario(), 1e4);
  expect(heard).toEqual(["a warning"]);
});

test("slowness, timeout, abort and close end commands as on a real host", async () => {
  const simulation = createSimulation(1, { commands });
  const { processes } = simulation.addHost("a");
  const run = (signal: AbortSignal, timeoutMs = 10_000) =>
    processes.run(spec(["idle"], { timeoutMs }), signal);
  await expect(processes.run(spec(["none"]), never())).rejects.toMatchObject({
    code: "io",
    message: 'ENOENT: cannot run "none"',
  });
  simulation.faults.setSlowness("a", 3);
  expect(await simulation.finish(run(never()), 1e5)).toMatchObject({ wallMs: 3000, exitCode: 0 });
  expect(await simulation.finish(run(never(), 500), 1e5)).toMatchObject({
    timedOut: true,
    signal: "SIGKILL",
    exitCode: 137,
  });
  const stop = new AbortController();
  const aborted = run(stop.signal);
  stop.abort("no");
  await expect(aborted).rejects.toBe("no");
  const closed = run(never());
  await processes.close();
  await expect(closed).rejects.toMatchObject({ code: "cancelled" });
  await expect(run(never())).rejects.toMatchObject({ code: "cancelled" });
});

test("what a command reads is whole, whatever its node reads", async () => {
  const simulation = createSimulation(1, { commands });
  const { disk, processes } = simulation.addHost("a");
  const scenario = async () => {
    await disk.writeAtomic("/in", utf8("text"), { mode: 0o644, sync: false });
    simulation.faults.setReadFlipChance("a", 1);
    await processes.run(spec(["compile"]), never());
    simulation.faults.setReadFlipChance("a", 0);
    expect(textOf(await disk.read("/out"))).toBe("TEXT");
  };
  await simulation.finish(scenario(), 1e4);
});

test("commands are counted while they run", async () => {
  const simulation = createSimulation(1, { commands });
  const { processes } = simulation.addHost("a");
  const run = processes.run(spec(["idle"]), never());
  await simulation.run(10);
  expect(simulation.running("a")).toBe(1);
  await simulation.finish(run, 1e4);
  expect(simulation.running("a")).toBe(0);
});
