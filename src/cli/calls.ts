/** The short commands: each asks the node one thing and prints what it says. */
import { parseInviteReply, type Role } from "../node/control-api.ts";
import { ask } from "./client.ts";
import { answerMaxMs } from "./status.ts";
import type { Terminal } from "./terminal.ts";

export interface InviteFlags {
  readonly dataDir: string;
  readonly expiresMs: number;
  readonly role: Role;
  readonly json: boolean;
}

/** The invite alone on stdout, so that it can be piped; what to do with it on stderr. */
export async function inviteCommand(
  { dataDir, expiresMs, role, json }: InviteFlags,
  terminal: Terminal,
): Promise<number> {
  const request = { call: "invite", expiresMs, role } as const;
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

export async function cancelCommand(
  id: string,
  dataDir: string,
  terminal: Terminal,
): Promise<number> {
  await ask(dataDir, { call: "cancel", id }, { silenceMs: answerMaxMs });
  terminal.err(`mesh: ${id} is cancelled\n`);
  return 0;
}

/** A node that leaves finishes or hands back what it runs for others first. */
const leaveMaxMs = 60_000;

export async function leaveCommand(dataDir: string, terminal: Terminal): Promise<number> {
  await ask(dataDir, { call: "leave" }, { silenceMs: leaveMaxMs });
  terminal.err(`mesh: the node of ${dataDir} has left the mesh and ended\n`);
  return 0;
}
