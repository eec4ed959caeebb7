/** `mesh status` and `mesh peers`: what the node of a data directory and its mesh are doing. */
import type { NodeStatus, PeerDetail, PeerLoad } from "../node/control-api.ts";
import { parsePeersReply, parseStatusReply } from "../node/control-replies.ts";
import { ask } from "./client.ts";
import { countOf } from "./summary.ts";
import { table } from "./table.ts";
import { type Paint, painter, type Terminal } from "./terminal.ts";

/** A node answers from memory; a longer silence means that it is stopped. */
export const answerMaxMs: number = 5_000;

export async function statusCommand(
  dataDir: string,
  json: boolean,
  terminal: Terminal,
): Promise<number> {
  const reply = await ask(dataDir, { call: "status" }, { silenceMs: answerMaxMs });
  const status = parseStatusReply(reply);
  terminal.out(
    json ? `${JSON.stringify(status)}\n` : statusText(status, painter(terminal.outColor)),
  );
  return 0;
}

export async function peersCommand(
  dataDir: string,
  json: boolean,
  terminal: Terminal,
): Promise<number> {
  const reply = await ask(dataDir, { call: "peers" }, { silenceMs: answerMaxMs });
  const peers = parsePeersReply(reply);
  terminal.out(json ? `${JSON.stringify(peers)}\n` : peersText(peers));
  return 0;
}

export function statusText(status: NodeStatus, paint: Paint): string {
  const { name, peerId, slots, busy, queued, peers, counters } = status;
  const lines = [
    `${paint("bold", name)}  ${peerId}`,
    `${busy} of ${countOf(slots, "slot")} busy, ${queued} queued, ${countOf(peers.length, "peer")}`,
  ];
  if (peers.length > 0) lines.push("", ...peerTable(peers));
  const counted = Object.entries(counters).filter(([, count]) => count !== 0);
  if (counted.length > 0) {
    const rows = counted.map(([key, count]) => [key, String(count)]);
    lines.push("", ...table([left("since start"), right("")], rows));
  }
  return `${lines.join("\n")}\n`;
}

export function peersText(peers: readonly PeerDetail[]): string {
  if (peers.length === 0) {
    return "no peers: `mesh invite` makes an invite for another machine\n";
  }
  const columns = [
    left("NAME"),
    right("SLOTS"),
    right("BUSY"),
    right("QUEUED"),
    right("RTT"),
    left("PLATFORM"),
    left("SANDBOX"),
    left("LABELS"),
    left("ADDRESS"),
    left("PEER"),
  ];
  const rows = peers.map((peer) => [
    ...loadCells(peer),
    peer.platform,
    peer.sandbox === "" ? "none: takes no tasks" : peer.sandbox,
    Object.entries(peer.labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(" ") || "-",
    placeOf(peer.addrs[0]),
    peer.peerId,
  ]);
  return `${table(columns, rows).join("\n")}\n`;
}

function peerTable(peers: readonly PeerLoad[]): readonly string[] {
  const columns = [left("PEER"), right("SLOTS"), right("BUSY"), right("QUEUED"), right("RTT")];
  return table(columns, peers.map(loadCells));
}

function loadCells({ name, slots, busy, queued, rttMs }: PeerLoad): readonly string[] {
  const rtt = rttMs === null ? "-" : `${rttMs < 10 ? rttMs.toFixed(1) : Math.round(rttMs)} ms`;
  return [name, String(slots), String(busy), String(queued), rtt];
}

/** Without the part that only repeats the peer's id. */
function placeOf(addr: string | undefined): string {
  return addr?.replace(/\/p2p\/[^/]+$/, "") ?? "-";
}

function left(title: string): { readonly title: string; readonly align: "left" } {
  return { title, align: "left" };
}

function right(title: string): { readonly title: string; readonly align: "right" } {
  return { title, align: "right" };
}
