/**
 * The malicious member, a process of its own: `node liar.ts INVITE`.
 *
 * Each line of its stdin is a lie, `{"lie","addrs","forMs"}`, told under a new identity to whoever is
 * at these addresses; each line of its stdout says what came of one. It ends with its stdin.
 */
import { createInterface } from "node:readline";
import { decodeInvite } from "../../../src/peer/invite.ts";
import { startLiar } from "./liar-peer.ts";
import { lies } from "./lies.ts";

export interface LieOrder {
  readonly lie: string;
  readonly addrs: readonly string[];
  readonly forMs: number;
}

export interface LieReport {
  readonly lie: string;
  readonly peerId: string;
  /** Nodes that heard it. */
  readonly met: readonly string[];
  /** Tasks it was given. */
  readonly taken: number;
}

async function tell({ lie, addrs, forMs }: LieOrder, meshKey: Uint8Array): Promise<void> {
  const found = lies[lie];
  if (found === undefined) throw new Error(`no such lie: ${lie}`);
  const liar = await startLiar(meshKey, addrs, found.hooks);
  await new Promise((wake) => setTimeout(wake, forMs));
  await liar.close();
  const report: LieReport = {
    lie,
    peerId: liar.self,
    met: [...liar.met],
    taken: liar.taken(),
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

const { meshKey } = decodeInvite(process.argv[2] ?? "", Date.now());
// What libp2p throws outside every call, when the other side has had enough.
process.on("uncaughtException", (error) => process.stderr.write(`${error.stack}\n`));
process.on("unhandledRejection", (error) => process.stderr.write(`${String(error)}\n`));
for await (const line of createInterface(process.stdin)) {
  await tell(JSON.parse(line) as LieOrder, meshKey);
}
process.exit(0);
