/** Nodes that know results, on simulated hosts: real stores, records, homes and streams. */

import { utf8 } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import type { PeerId } from "../base/ids.ts";
import { type BlobStore, createBlobStore } from "../blob/store.ts";
import type { Host, Stream } from "../host/host.ts";
import type { Peer } from "../peer/directory.ts";
import { createSimSigning } from "../sim/signing.ts";
import { createSimulation, type Simulation } from "../sim/simulation.ts";
import { createFrameDecoder, encodeFrame, type Frame, frameOf } from "../wire/frame.ts";
import { unpackDigests } from "../wire/messages.ts";
import { ac, acProtocol } from "./ac.ts";
import type { ActionOutcome } from "./action.ts";
import type { HomesOptions } from "./homes.ts";
import { meshTagOf, type RecordKeys, writeRecord } from "./record.ts";
import { openRecords, type Records, recordsDefaults } from "./records.ts";
import { createResults, type Results, resultsDefaults } from "./results.ts";

export const forever: AbortSignal = new AbortController().signal;
export const tag: Uint8Array = meshTagOf(new Uint8Array(32).fill(1));

export interface ResultNode {
  readonly host: Host;
  readonly self: PeerId;
  readonly store: BlobStore;
  readonly records: Records;
  readonly results: Results;
  readonly said: readonly string[];
}

export interface NodeSettings extends Partial<HomesOptions> {
  readonly recordsMax?: number;
  readonly bytesMax?: number;
  readonly quotaBytes?: number;
}

/** Starts a node on a host; a second one on the same disk is its next life. */
export async function startNode(host: Host, settings: NodeSettings = {}): Promise<ResultNode> {
  const { disk, clock, network } = host;
  await disk.makeDirectory("/data");
  const said: string[] = [];
  const { recordsMax = recordsDefaults.recordsMax, bytesMax = recordsDefaults.bytesMax } = settings;
  const store = await createBlobStore(
    { disk, clock },
    { directory: "/data", quotaBytes: settings.quotaBytes ?? 1e9, sync: "never" },
    forever,
  );
  const records = await openRecords(
    {
      keys: { signing: createSimSigning(network.self), tag },
      disk,
      clock,
      emit: (event) => void (event.event === "log" && said.push(event.message)),
    },
    { recordsMax, bytesMax, directory: "/data/results" },
    forever,
  );
  const directory = {
    admitted: (peer: PeerId) => network.peers().includes(peer),
    peers: () => network.peers().map(describe),
    onJoined: (listener: (peer: Peer) => void) =>
      network.onChange(({ peer, at }) => at === "connected" && listener(describe(peer))),
    onLeft: (listener: (peer: Peer) => void) =>
      network.onChange(({ peer, at }) => at === "disconnected" && listener(describe(peer))),
  };
  const results = createResults(
    { records, store, clock, network, directory },
    { ...resultsDefaults, ...settings },
  );
  return { host, self: network.self, store, records, results, said };
}

function describe(id: PeerId): Peer {
  return {
    ...{
      id,
      name: id,
      slots: 1,
      sandbox: "bwrap",
      platform: "linux/x86_64",
      labels: {},
      addrs: [],
    },
    ...{ load: undefined, rttMs: undefined },
  };
}

/** Every named host is connected to every other; `start` puts on each what it likes. */
export async function inMesh<N>(
  names: readonly string[],
  start: (host: Host) => Promise<N>,
  run: (simulation: Simulation, nodes: readonly N[]) => Promise<void>,
): Promise<void> {
  const simulation = createSimulation(1);
  const hosts = names.map((name) => simulation.addHost(name));
  const story = async (): Promise<void> => {
    const nodes = await Promise.all(hosts.map(start));
    for (const [index, host] of hosts.entries())
      for (const name of names.slice(index + 1)) await host.network.connect(`sim/${name}`, forever);
    await run(simulation, nodes);
  };
  await simulation.finish(story(), 1e7);
}

export const actionOf = (name: string): Digest => digestOf(utf8(`action ${name}`));

/** Puts the blobs of a result into the store. */
export async function outcomeOf(store: BlobStore, name: string): Promise<ActionOutcome> {
  const outputs = [
    { path: `/w/${name}.o`, digest: await store.put(utf8(`object ${name}`)), executable: false },
    { path: `/w/${name}`, digest: await store.put(utf8(`program ${name}`)), executable: true },
  ];
  const stderr = await store.put(utf8(`warning of ${name}`));
  return { exitCode: 0, outputs, stdout: await store.put(new Uint8Array()), stderr };
}

/** A record as that host would sign it, of blobs that are nowhere. */
export function recordBy(signer: PeerId, name: string, tagged: Uint8Array = tag): Uint8Array {
  const keys: RecordKeys = { signing: createSimSigning(signer), tag: tagged };
  const digest = digestOf(utf8(`object ${name}`));
  const outputs = [{ path: `/w/${name}.o`, digest, executable: false }];
  const outcome = { exitCode: 0, outputs, stdout: digest, stderr: digest };
  const action = actionOf(name);
  return writeRecord(keys, { action, outcome, runMs: 7, signer, madeAtSeconds: 1 });
}

/** A home whose answers the test decides: one reply for each action that is asked for. */
export function serveAnswers(
  { network }: Host,
  reply: (action: Digest, frame: Frame, index: number) => readonly Frame[],
  end: boolean = true,
): { readonly asked: Digest[]; readonly frames: Frame[] } {
  const asked: Digest[] = [];
  const frames: Frame[] = [];
  network.serve(acProtocol, (_, stream: Stream) => {
    const decoder = createFrameDecoder({ frameMaxBytes: 1e6 });
    const onFrame = (frame: Frame): void => {
      frames.push({ ...frame, payload: frame.payload.slice() });
      if (frame.type !== ac.lookup) return;
      const actions = unpackDigests(frame.payload, 1024);
      asked.push(...actions);
      const answers = actions.flatMap((action, index) => reply(action, frame, index));
      const { requestId } = frame;
      if (end) answers.push(frameOf(ac.end, { requestId }));
      for (const answer of answers) stream.send(encodeFrame(answer));
    };
    stream.receive((bytes) => decoder.push(bytes, onFrame));
  });
  return { asked, frames };
}
