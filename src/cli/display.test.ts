import { expect, test } from "vitest";
import { asPeerId, asTaskId } from "../base/ids.ts";
import type { BuildStarted } from "../node/control-api.ts";
import { eventText } from "./display.ts";
import { createPlainDisplay } from "./display-plain.ts";
import { createTtyDisplay } from "./display-tty.ts";
import { clip, drawLine, eraseLine, estimateLeftMs, liveLine } from "./live-line.ts";
import { createTally, summaryOf, type TallyKeeper } from "./tally.ts";
import { painter, type Terminal } from "./terminal.ts";
import { plain } from "./tool-lines.ts";

const started: BuildStarted = {
  event: "build-started",
  build: "b",
  shimSocket: "/s",
  shim: "/x",
  shimDir: "/y",
  shimKind: "c",
  slots: 2,
  jobs: 2,
  peers: 0,
};
const peer = asPeerId("12D3peer");
const queued = (id: string, build = "b") =>
  ({
    event: "task-queued",
    task: asTaskId(id),
    build,
    kind: "c++",
    label: `${id}.cc`,
    stealable: true,
  }) as const;
const startedTask = (id: string, where: typeof peer | undefined) =>
  ({
    event: "task-started",
    task: asTaskId(id),
    build: "b",
    peer: where,
    attempt: 0,
    backup: false,
  }) as const;
const done = (id: string, source: "here" | "there" | "cached-here" | "cached-mesh") =>
  ({
    event: "task-done",
    task: asTaskId(id),
    build: "b",
    label: id,
    source,
    peer: source === "there" ? peer : undefined,
    exitCode: 0,
    wallMs: 5,
    phases: { queueMs: 1, fetchMs: 1, runMs: 2, returnMs: 1 },
  }) as const;

/** Six tasks: two running, one waiting, one done in each of three ways. */
function busy(): TallyKeeper {
  const keeper = createTally();
  keeper.see(started);
  keeper.see({ event: "peer-joined", peer, name: "node-b", slots: 4 });
  for (const id of ["1", "2", "3", "4", "5", "6"]) keeper.see(queued(id));
  keeper.see(startedTask("1", undefined));
  keeper.see(startedTask("2", peer));
  keeper.see(startedTask("4", peer));
  keeper.see(done("4", "there"));
  keeper.see(done("5", "here"));
  keeper.see(done("6", "cached-mesh"));
  return keeper;
}

test("a tally counts where tasks are and where they ended, for its own build alone", () => {
  const keeper = busy();
  keeper.see(queued("x", "another build"));
  const { tally } = keeper;
  expect([tally.waiting, tally.runningHere, tally.runningThere]).toEqual([1, 1, 1]);
  expect([tally.here, tally.there, tally.cachedHere, tally.cachedMesh]).toEqual([1, 1, 0, 1]);
  expect(tally.done).toBe(3);
  expect(tally.nameOf(peer)).toBe("node-b");
  expect(summaryOf(tally, 12.4)).toEqual({
    tasks: 3,
    local: 1,
    stolen: 1,
    cachedLocal: 0,
    cachedMesh: 1,
    fallback: [],
    wallMs: 12,
    clientCpuMs: 0,
    byPeer: { [peer]: 1 },
    compared: 0,
    differing: 0,
  });
});

test("known results are counted by who signed them, and comparisons by how they ended", () => {
  const { see, tally } = busy();
  see({ ...done("7", "cached-mesh"), peer });
  const compared = { event: "task-compared", build: "b", label: "7.cc" } as const;
  see({ ...compared, task: asTaskId("7"), equal: true, differs: [] });
  see({ ...compared, task: asTaskId("8"), equal: false, differs: [{ path: "/8.o", atByte: 3 }] });
  expect([...tally.cachedByPeer]).toEqual([[peer, 1]]);
  expect([tally.compared, tally.differing]).toEqual([2, 1]);
});

test("a task that came out differently is told with the first byte of each output", () => {
  const differs = Array.from({ length: 7 }, (_, at) => ({ path: `/o${at}`, atByte: at }));
  const event = { event: "task-compared", task: asTaskId("1"), build: "b", label: "a.cc" } as const;
  expect(eventText({ ...event, equal: true, differs: [] })).toBeUndefined();
  expect(eventText({ ...event, equal: false, differs })).toBe(
    "a.cc came out differently here: /o0 from byte 0 on, /o1 from byte 1 on, /o2 from byte 2 on, " +
      "/o3 from byte 3 on, /o4 from byte 4 on and 2 more",
  );
});

test("a task that comes back from a peer waits again, a cancelled one is gone", () => {
  const { see, tally } = busy();
  see({
    event: "task-requeued",
    task: asTaskId("2"),
    build: "b",
    peer,
    attempt: 1,
    reason: "peer left",
  });
  see({ event: "task-cancelled", task: asTaskId("1"), build: "b" });
  expect([tally.waiting, tally.runningHere, tally.runningThere]).toEqual([2, 0, 0]);
});

test("reasons are counted, up to a bound, and having no peers is none", () => {
  const { see, tally } = busy();
  const fallback = (reason: string) =>
    see({ event: "task-fallback", task: asTaskId("9"), build: "b", label: "x", reason });
  fallback("no-peers");
  for (let at = 0; at < 100; at += 1) fallback(`reason ${at}`);
  expect(tally.fallback.size).toBe(41);
  expect(tally.fallback.get("other reasons")).toBe(60);
  expect(tally.fallback.has("no-peers")).toBe(false);
});

const view = {
  tally: busy().tally,
  starting: false,
  progress: { done: 45, total: 143 },
  elapsedMs: 62_000,
  progressMs: 60_000,
  progressFrom: 0,
};
const bare = painter(false);

test("the live line says how far, where, and how long still", () => {
  expect(liveLine(view, 120, bare)).toBe(
    "mesh 45/143 · 1 here, 1 there · 1 stolen · 1 cached · 1 peer · 1:02, 2:11 left",
  );
  expect(liveLine({ ...view, progress: undefined }, 120, bare)).toBe(
    "mesh 3 done · 1 here, 1 there · 1 stolen · 1 cached · 1 peer · 1:02",
  );
  expect(liveLine({ ...view, progress: { done: 12, total: 100 } }, 24, bare)).toBe(
    "mesh 12% · 1 here, 1 t…",
  );
  const none = { ...view, tally: createTally().tally, progress: undefined };
  expect(liveLine({ ...none, starting: true }, 80, bare)).toBe("mesh starting · 1:02");
  expect(liveLine(none, 80, bare)).toBe("mesh 1:02");
});

test("no terminal is too narrow, and the line never reaches its last column", () => {
  for (let columns = 1; columns < 100; columns += 1) {
    const width = [...plain(liveLine(view, columns, painter(true)))].length;
    expect(width).toBeLessThan(Math.max(columns, 2));
  }
  expect(clip("abc", 3)).toBe("abc");
});

test("an estimate waits for evidence, and what was done before the start is none", () => {
  expect(estimateLeftMs({ ...view, progressMs: 1_000 })).toBeUndefined();
  expect(estimateLeftMs({ ...view, progressFrom: 43 })).toBeUndefined();
  expect(estimateLeftMs({ ...view, progress: { done: 143, total: 143 } })).toBeUndefined();
  expect(estimateLeftMs({ ...view, progressFrom: 15 })).toBe((60_000 / 30) * 98);
});

interface Screen extends Terminal {
  text(): string;
  readonly writes: string[];
}

function screen(outTty = true): Screen {
  const writes: string[] = [];
  const write = (text: string | Uint8Array) =>
    void writes.push(typeof text === "string" ? text : Buffer.from(text).toString());
  return {
    out: write,
    err: write,
    outTty,
    errTty: true,
    outColor: false,
    errColor: false,
    columns: () => 60,
    text: () => writes.join(""),
    writes,
  };
}

function tty(terminal: Terminal) {
  let tick: () => void = () => {};
  let nowMs = 0;
  const display = createTtyDisplay({
    terminal,
    tally: busy().tally,
    nowMs: () => nowMs,
    every: (_periodMs, run) => {
      tick = run;
      return () => {
        tick = () => {};
      };
    },
  });
  return {
    display,
    tick: () => {
      nowMs += 100;
      tick();
    },
  };
}

const live = drawLine("mesh 3 done · 1 here, 1 there · 1 stolen · 1 cached · 1 pe…");

test("the live line is taken away before a tool's line and drawn again after it", () => {
  const terminal = screen();
  const { display, tick } = tty(terminal);
  display.step("make");
  tick();
  display.tool("stdout", Buffer.from("cc -c a.c\n"));
  tick();
  display.note("node-b left");
  display.close();
  expect(terminal.writes).toEqual([
    live,
    eraseLine,
    "cc -c a.c\n",
    live,
    eraseLine,
    "mesh node-b left\n",
  ]);
});

test("while a tool is in the middle of a line, nothing of ours is written into it", () => {
  const terminal = screen();
  const { display, tick } = tty(terminal);
  display.step("make");
  display.tool("stdout", Buffer.from("test a ... "));
  tick();
  tick();
  tick();
  display.tool("stdout", Buffer.from("ok\n"));
  tick();
  expect(terminal.writes).toEqual([live, eraseLine, "test a ... ", "ok\n", live]);
});

test("ninja's counts go into the live line, and its own status lines scroll no more", () => {
  const terminal = screen();
  const { display, tick } = tty(terminal);
  display.step("ninja");
  display.tool("stdout", Buffer.from("[1/20] CC a.o\n[2/20] CC b.o\n"));
  tick();
  expect(terminal.text()).toContain("mesh 2/20 · ");
  expect(terminal.text()).not.toContain("CC a.o");
  display.close();
  expect(terminal.text()).toMatch(/\[2\/20\] CC b\.o\n$/);
});

test("a closed display draws nothing more, and what a tool still says passes", () => {
  const terminal = screen();
  const { display, tick } = tty(terminal);
  display.close();
  tick();
  display.tool("stderr", Buffer.from("make: *** Interrupt\n"));
  expect(terminal.text()).toBe("make: *** Interrupt\n");
});

test("a stdout that is no terminal is left to the tool, even when stderr is one", () => {
  expect(tty(screen(false)).display.pipes).toEqual({ stdout: false, stderr: true });
});

test("the plain display prints whole lines without a control character and takes no stream", () => {
  const terminal = screen();
  const display = createPlainDisplay(terminal);
  display.step("make");
  display.note("make -j4: 2 slots here, 1 peer");
  display.see({ event: "peer-left", peer, name: "node-b", reason: "it stopped answering" });
  display.see(queued("1"));
  display.close();
  expect(terminal.text()).toBe(
    "mesh: make -j4: 2 slots here, 1 peer\n" +
      "mesh: node-b left (it stopped answering): what it was doing is done elsewhere\n",
  );
  expect(display.pipes).toEqual({ stdout: false, stderr: false });
});
