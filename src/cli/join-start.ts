/** Puts `join` together: the user's flags, the daemon, and the command that watches it. */
import { availableParallelism, homedir, hostname } from "node:os";
import { join } from "node:path";
import { systemPrefixes } from "../blob/twin.ts";
import type { OpenOptions } from "../node/open.ts";
import { type RunningNode, startDaemon } from "./daemon.ts";
import { createInterrupts } from "./interrupts.ts";
import { type JoinedNode, joinCommand } from "./join.ts";
import { installLastResort } from "./last-resort.ts";
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
  let running: RunningNode | undefined;
  let isBroken = false;
  const complain = (message: string) => terminal.err(`mesh: ${message}\n`);
  const uninstall = installLastResort({
    warn: (message) => {
      if (running === undefined) complain(message);
      else running.node.events.emit({ event: "log", level: "warn", message });
    },
    say: complain,
    end: async () => {
      isBroken = true;
      await running?.stop();
    },
  });
  const start = async (signal: AbortSignal): Promise<JoinedNode> => {
    running = await startDaemon(
      {
        ...choice,
        slots: choice.slots ?? availableParallelism(),
        nameDefault: hostname(),
        twinPrefixes: [...systemPrefixes, env.RUSTUP_HOME ?? join(homedir(), ".rustup")],
        path: env.PATH ?? "/usr/bin:/bin",
      },
      signal,
    );
    const { node, ready, met, sessions, done, stop } = running;
    return {
      ready,
      name: node.own.name,
      sandboxWhy: node.sandbox.why,
      created: node.membership.created,
      events: node.events,
      met,
      sessions,
      stop,
      // Nobody asked a broken node to leave: what comes next is the end of the program.
      done: done.then(() => (isBroken ? new Promise(() => {}) : undefined)),
    };
  };
  try {
    const { dataDir, embedded, drainMs } = choice;
    return await joinCommand(
      { start, terminal, interrupts, stdin: process.stdin },
      { dataDir, json, embedded, drainMs },
    );
  } finally {
    uninstall();
    interrupts.close();
  }
}
