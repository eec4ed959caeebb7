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

/** A node that runs, as far as this command is concerned with it. */
export interface JoinedNode {
  readonly ready: Ready;
  readonly name: string;
  /** Why there is no sandbox, or no better one; empty when all is well. */
  readonly sandboxWhy: string;
  /** Whether this start made a new mesh. */
  readonly created: boolean;
  readonly events: Pick<Events, "listen">;
  /** The peers that it has met up to now, as the events that told of them. */
  met(): readonly MeshEvent[];
  /** Builds and jobs that commands have open. */
  sessions(): number;
  /** Leaves in order: hands back what it runs for others. Resolves when all is closed. */
  stop(): Promise<void>;
  /** Resolves when the node has ended, by `stop` or because a command asked it to leave. */
  readonly done: Promise<void>;
}

export interface JoinDeps {
  readonly start: (signal: AbortSignal) => Promise<JoinedNode>;
  readonly terminal: Terminal;
  readonly interrupts: Interrupts;
  /** An embedded node's tie to the command it serves: when it ends, so does the node. */
  readonly stdin: Readable;
}

/**
 * A node that cannot leave in order this long after its foreign tasks had their time just ends: its
 * peers notice by themselves.
 */
const leaveGraceMs = 5_000;
/** How long nothing may come before a burst of tasks counts as over. */
const burstQuietMs = 2_000;
/** How often an embedded node that was let go looks whether other commands still need it. */
const stayPeriodMs = 200;

export interface JoinOptions {
  readonly dataDir: string;
  readonly json: boolean;
  /** How long others' tasks may run on when the node leaves. */
  readonly drainMs: number;
  /** For one command only; see embedded.ts. */
  readonly embedded: boolean;
}

export async function joinCommand(deps: JoinDeps, options: JoinOptions): Promise<number> {
  const { terminal, interrupts } = deps;
  const { json } = options;
  const say = (value: object) => terminal.out(`${JSON.stringify(value)}\n`);
  let node: JoinedNode;
  let flushEvents = () => {};
  try {
    node = await deps.start(interrupts.signal);
  } catch (error) {
    if (interrupts.signal.aborted) return 0;
    if (json && isMeshError(error)) {
      say({ event: "failed", code: error.code, message: oneLine(messageOf(error)) });
    }
    throw error;
  }
  if (json) {
    say(node.ready);
    // Whoever started an embedded node reads no events here: they come with its build.
    if (!options.embedded) {
      for (const event of node.met()) say(event);
      node.events.listen(say);
    }
  } else {
    terminal.out(readyText(node, options.dataDir, painter(terminal.outColor)));
    flushEvents = printEvents(node, terminal);
  }
  const why = await Promise.race([
    node.done.then(() => "done" as const),
    aborted(interrupts.signal),
    letGo(deps, node, options),
  ]);
  const tell = (text: string) => {
    if (!json) terminal.out(`${text}\n`);
  };
  if (why === "done") {
    tell("left, as a command asked");
  } else {
    tell("leaving… (Ctrl-C again: at once)");
    const inOrder = await leave(node, options.drainMs, interrupts.hurry);
    tell(inOrder ? "left" : "ended without waiting for what was still running");
  }
  flushEvents();
  if (json) say({ event: "left" });
  return 0;
}

async function leave(node: JoinedNode, drainMs: number, hurry: AbortSignal): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), drainMs + leaveGraceMs);
  });
  const hurried = aborted(hurry).then(() => false);
  try {
    return await Promise.race([node.stop().then(() => true), late, hurried]);
  } finally {
    clearTimeout(timer);
  }
}

/** Returns the call that tells what still waits to be told. */
function printEvents(
  { events, met }: Pick<JoinedNode, "events" | "met">,
  terminal: Terminal,
): () => void {
  const lines = createEventLines();
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    clearTimeout(timer);
    for (const line of lines.flush()) terminal.out(`${line}\n`);
  };
  const print = (event: MeshEvent) => {
    for (const line of lines.see(event)) terminal.out(`${line}\n`);
  };
  // Those that came while the node was starting, before anybody could listen.
  for (const event of met()) print(event);
  events.listen((event) => {
    print(event);
    if (!lines.pending()) return;
    clearTimeout(timer);
    timer = setTimeout(flush, burstQuietMs);
  });
  return flush;
}

/** Resolves when an embedded node's command is done with it and no other one needs it. */
async function letGo(
  { stdin, terminal }: JoinDeps,
  node: JoinedNode,
  { embedded }: JoinOptions,
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
export function readyText(
  {
    ready,
    name,
    sandboxWhy,
    created,
  }: Pick<JoinedNode, "ready" | "name" | "sandboxWhy" | "created">,
  dataDir: string,
  paint: Paint,
): string {
  const { peerId, addrs, invite, slots, sandbox } = ready;
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

export interface EventLines {
  see(event: MeshEvent): readonly string[];
  /** Whether a burst of tasks waits to be told. */
  pending(): boolean;
  /** Tells it. */
  flush(): readonly string[];
}

/**
 * A line for each peer that comes or goes, and one for each burst of tasks done for a peer: a line
 * a task would be thousands.
 */
export function createEventLines(): EventLines {
  const names = new Map<string, string>();
  const bursts = new Map<string, number>();
  const nameOf = (peer: string) => names.get(peer) ?? `…${peer.slice(-8)}`;
  const see: EventLines["see"] = (event) => {
    switch (event.event) {
      case "peer-joined":
        names.set(event.peer, event.name);
        return [`${event.name} joined: ${countOf(event.slots, "slot")}`];
      case "peer-left":
        return [`${event.name} left: ${event.reason}`];
      case "peer-refused":
        return [`refused ${nameOf(event.peer)}: ${event.reason}`];
      case "foreign-done":
        bursts.set(event.owner, (bursts.get(event.owner) ?? 0) + 1);
        return [];
      case "log":
        return [event.message];
      default:
        return [];
    }
  };
  return {
    see,
    pending: () => bursts.size > 0,
    flush() {
      const lines = [...bursts].map(([owner, tasks]) => {
        return `ran ${countOf(tasks, "task")} for ${nameOf(owner)}`;
      });
      bursts.clear();
      return lines;
    },
  };
}
