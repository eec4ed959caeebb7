/**
 * `mesh-node join`: a node in the foreground, and what its user or a script gets to read about it.
 *
 * It starts and stops the node through `JoinDeps` and does not know what a node is made of.
 */
import type { Readable } from "node:stream";
import { isMeshError, messageOf } from "../base/errors.ts";
import type { Events, MeshEvent } from "../base/events.ts";
import type { Ready } from "../node/control-api.ts";
import { oneLine } from "./exit.ts";
import type { Interrupts } from "./interrupts.ts";
import { countOf } from "./summary.ts";
import { type Paint, painter, type Terminal } from "./terminal.ts";

/** What the user asked of a node; undefined is the node's own default. */
export interface StartOptions {
  readonly dataDir: string;
  readonly invite: string | undefined;
  readonly listen: readonly string[];
  readonly bootstrap: readonly string[];
  readonly slots: number | undefined;
  readonly name: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly cacheMaxBytes: number | undefined;
  readonly sandbox: "bwrap" | "unshare" | "none" | undefined;
  readonly mdns: boolean;
  /** For one command only: no network where the data directory belongs to no mesh yet. */
  readonly embedded: boolean;
}

/** A node that runs. */
export interface RunningNode {
  readonly ready: Omit<Ready, "event"> & {
    readonly name: string;
    /** Why there is no sandbox, or no better one; empty when all is well. */
    readonly sandboxWhy: string;
    /** Whether this start made a new mesh. */
    readonly created: boolean;
  };
  readonly events: Pick<Events, "listen">;
  /** Builds and jobs that commands have open. */
  sessions(): number;
  /** Leaves in order: hands back what it runs for others. Resolves when all is closed. */
  stop(): Promise<void>;
  /** Resolves when the node has ended, by `stop` or because a command asked it to leave. */
  readonly done: Promise<void>;
}

export interface JoinDeps {
  readonly start: (options: StartOptions, signal: AbortSignal) => Promise<RunningNode>;
  readonly terminal: Terminal;
  readonly interrupts: Interrupts;
  /** An embedded node's tie to the command it serves: when it ends, so does the node. */
  readonly stdin: Readable;
}

/** A node that cannot leave in order within this long just ends: its peers notice by themselves. */
const leaveMaxMs = 5_000;
/** How often an embedded node that was let go looks whether other commands still need it. */
const stayPeriodMs = 200;

export async function joinCommand(
  deps: JoinDeps,
  options: StartOptions,
  json: boolean,
): Promise<number> {
  const { terminal, interrupts } = deps;
  const say = (value: object) => terminal.out(`${JSON.stringify(value)}\n`);
  let node: RunningNode;
  try {
    node = await deps.start(options, interrupts.signal);
  } catch (error) {
    if (interrupts.signal.aborted) return 0;
    if (json && isMeshError(error)) {
      say({ event: "failed", code: error.code, message: oneLine(messageOf(error)) });
    }
    throw error;
  }
  if (json) {
    say({ event: "ready", ...node.ready });
    node.events.listen(say);
  } else {
    const paint = painter(terminal.outColor);
    terminal.out(readyText(node.ready, options.dataDir, paint));
    const lines = createEventLines();
    node.events.listen((event) => {
      for (const line of lines(event)) terminal.out(`${line}\n`);
    });
  }
  const why = await Promise.race([
    node.done,
    aborted(interrupts.signal),
    letGo(deps, node, options),
  ]);
  if (why === undefined) {
    if (!json) terminal.out("left, as a command asked\n");
    return 0;
  }
  if (!json) terminal.out("leaving… (Ctrl-C again: at once)\n");
  const left = await Promise.race([
    node.stop().then(() => true),
    new Promise<false>((resolve) => setTimeout(() => resolve(false), leaveMaxMs)),
    aborted(interrupts.hurry).then(() => false),
  ]);
  if (!json) terminal.out(left ? "left\n" : "ended without waiting for what was still running\n");
  if (json) say({ event: "left" });
  return 0;
}

/** Resolves when an embedded node's command is done with it and no other one needs it. */
async function letGo(
  { stdin, terminal }: JoinDeps,
  node: RunningNode,
  { embedded }: StartOptions,
): Promise<"let go"> {
  if (!embedded) return await new Promise(() => {});
  await new Promise<void>((resolve) => {
    stdin.once("end", () => resolve());
    stdin.once("error", () => resolve());
    stdin.once("close", () => resolve());
    stdin.resume();
  });
  for (let said = false; node.sessions() > 0; said = true) {
    if (!said) terminal.out(`${JSON.stringify({ event: "staying" })}\n`);
    await new Promise<void>((resolve) => setTimeout(() => resolve(), stayPeriodMs));
  }
  return "let go";
}

function aborted(signal: AbortSignal): Promise<"aborted"> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("aborted");
    else signal.addEventListener("abort", () => resolve("aborted"), { once: true });
  });
}

/** The first words of a node. */
export function readyText(ready: RunningNode["ready"], dataDir: string, paint: Paint): string {
  const { name, peerId, addrs, invite, slots, sandbox, sandboxWhy, created } = ready;
  const lines = [
    `${paint("bold", name)} is in ${created ? "a new mesh" : "its mesh"} with ${countOf(slots, "slot")}`,
    `  peer     ${peerId}`,
    ...addrs.map((addr, at) => `  ${at === 0 ? "address " : "        "} ${addr}`),
    `  state    ${dataDir}`,
  ];
  if (sandbox === "bwrap" || sandbox === "unshare") {
    const worse = sandboxWhy === "" ? "" : ` (${sandboxWhy})`;
    lines.push(`  sandbox  ${sandbox}${worse}`);
  } else if (sandbox === "none") {
    lines.push(
      paint("yellow", "  sandbox  none, as asked: other members' tasks can read all your files"),
    );
  } else {
    lines.push(
      paint("yellow", `  sandbox  none is usable, so this node takes no native tasks from others`),
      `           ${sandboxWhy === "" ? "`mesh doctor` says why" : sandboxWhy}`,
    );
  }
  if (invite === "") {
    lines.push("", "Nobody can be invited yet: this node has no address that others could dial.");
  } else {
    lines.push(
      "",
      "Run this on another machine to bring it in (whoever has this line can join):",
      `  npx mesh-node join ${invite}`,
    );
  }
  lines.push("", "Build with it from any folder: mesh build", "Ctrl-C leaves the mesh.", "");
  return `${lines.join("\n")}\n`;
}

/**
 * A line for each peer that comes or goes, and one for each burst of tasks done for others or by
 * others: a line a task would be thousands.
 */
export function createEventLines(): (event: MeshEvent) => readonly string[] {
  const names = new Map<string, string>();
  const burst = new Map<string, { tasks: number; open: number }>();
  const nameOf = (peer: string) => names.get(peer) ?? peer.slice(-8);
  const of = (key: string) => {
    const found = burst.get(key) ?? { tasks: 0, open: 0 };
    burst.set(key, found);
    return found;
  };
  /** Counts one more or fewer; a burst is over when nothing of it is left. */
  const move = (key: string, by: 1 | -1, text: (tasks: string) => string): readonly string[] => {
    const one = of(key);
    one.open = Math.max(0, one.open + by);
    if (by === -1) one.tasks += 1;
    if (one.open > 0 || one.tasks === 0) return [];
    burst.delete(key);
    return [text(countOf(one.tasks, "task"))];
  };
  return (event) => {
    switch (event.event) {
      case "peer-joined":
        names.set(event.peer, event.name);
        return [`${event.name} joined: ${countOf(event.slots, "slot")}`];
      case "peer-left":
        return [`${event.name} left: ${event.reason}`];
      case "peer-refused":
        return [`refused ${nameOf(event.peer)}: ${event.reason}`];
      case "foreign-started":
        return move(`for ${event.owner}`, 1, () => "");
      case "foreign-done":
        return move(`for ${event.owner}`, -1, (tasks) => `ran ${tasks} for ${nameOf(event.owner)}`);
      case "log":
        return [event.message];
      default:
        return [];
    }
  };
}
