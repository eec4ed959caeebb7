/** The short commands: each asks the node one thing and prints what it says. */
import { setTimeout as sleep } from "node:timers/promises";
import { MeshError } from "../base/errors.ts";
import { parseInviteReply } from "../node/control-replies.ts";
import { isAlive } from "../node/control-server.ts";
import { controlSocketPath } from "../node/paths.ts";
import { ask } from "./client.ts";
import { answerMaxMs } from "./status.ts";
import type { Terminal } from "./terminal.ts";

export interface InviteFlags {
  readonly dataDir: string;
  readonly expiresMs: number;
  readonly json: boolean;
}

/** The invite alone on stdout, so that it can be piped; what to do with it on stderr. */
export async function inviteCommand(
  { dataDir, expiresMs, json }: InviteFlags,
  terminal: Terminal,
): Promise<number> {
  const request = { call: "invite", expiresMs } as const;
  const reply = parseInviteReply(await ask(dataDir, request, { silenceMs: answerMaxMs }));
  if (json) {
    const { invite, expiresUnixMs } = reply;
    terminal.out(`${JSON.stringify({ invite, expiresUnixMs })}\n`);
    return 0;
  }
  terminal.out(`${reply.invite}\n`);
  const until = new Date(reply.expiresUnixMs).toLocaleString();
  terminal.err(
    `Run this on another machine, before ${until}:\n` +
      `  npx mesh-node join ${terminal.outTty ? "…the line above…" : "INVITE"}\n` +
      "Whoever has this line can join your mesh: send it to nobody else.\n",
  );
  return 0;
}

/** A node that leaves finishes or hands back what it runs for others first. */
const leaveMaxMs = 30_000;
const lookAgainMs = 50;

/** Returns when the node is gone, so that its data directory may be used again. */
export async function leaveCommand(dataDir: string, terminal: Terminal): Promise<number> {
  await ask(dataDir, { call: "leave" }, { silenceMs: leaveMaxMs });
  for (let waitedMs = 0; await isAlive(controlSocketPath(dataDir)); waitedMs += lookAgainMs) {
    if (waitedMs >= leaveMaxMs) {
      throw new MeshError("deadline", `the node of ${dataDir} was told to leave, but still runs`);
    }
    await sleep(lookAgainMs);
  }
  terminal.err(`mesh: the node of ${dataDir} has left the mesh\n`);
  return 0;
}
