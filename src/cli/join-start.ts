/** Puts `join` together: the user's flags, the daemon, and the command that watches it. */
import { availableParallelism, homedir, hostname } from "node:os";
import { join } from "node:path";
import { systemPrefixes } from "../blob/twin.ts";
import type { OpenOptions } from "../node/open.ts";
import { startDaemon } from "./daemon.ts";
import { createInterrupts } from "./interrupts.ts";
import { type JoinedNode, joinCommand } from "./join.ts";
import type { Terminal } from "./terminal.ts";

/** What the flags say; `undefined` is for this machine to decide. */
export interface JoinChoice extends Omit<OpenOptions, "slots" | "nameDefault" | "twinPrefixes"> {
  readonly slots: number | undefined;
}

export async function startJoin(
  choice: JoinChoice,
  json: boolean,
  terminal: Terminal,
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const interrupts = createInterrupts();
  const start = async (signal: AbortSignal): Promise<JoinedNode> => {
    const running = await startDaemon(
      {
        ...choice,
        slots: choice.slots ?? availableParallelism(),
        nameDefault: hostname(),
        twinPrefixes: [...systemPrefixes, env.RUSTUP_HOME ?? join(homedir(), ".rustup")],
        path: env.PATH ?? "/usr/bin:/bin",
      },
      signal,
    );
    const { node, ready, sessions, done, stop } = running;
    return {
      ready,
      name: node.own.name,
      sandboxWhy: node.sandbox.why,
      created: node.membership.created,
      events: node.events,
      sessions,
      stop,
      done,
    };
  };
  try {
    const { dataDir, embedded } = choice;
    return await joinCommand(
      { start, terminal, interrupts, stdin: process.stdin },
      { dataDir, json, embedded },
    );
  } finally {
    interrupts.close();
  }
}
