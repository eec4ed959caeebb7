/**
 * A running node with its doors open: what `join` keeps in the foreground, and what a build without
 * one starts for itself.
 *
 * It answers the control socket (node/control-api.ts) and the compilers' shims. It prints nothing.
 */
import type { MeshEvent } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import { createHistory, historyDefaults, historyFolder } from "../compile/history.ts";
import { buildShim } from "../compile/shim-build.ts";
import { createShimServer } from "../compile/shim-server.ts";
import { createJobDoor } from "../job/job.ts";
import { parseControlRequest, type Ready } from "../node/control-api.ts";
import { type OpenNode, type OpenOptions, openNode } from "../node/open.ts";
import { openCompileDoor } from "./compile-door.ts";
import { answer, joinedBefore, readyOf } from "./daemon-calls.ts";
import { createMasquerade } from "./masquerade.ts";

export interface RunningNode {
  readonly node: OpenNode;
  readonly ready: Ready;
  /** The peers that are here now, as the events that told of them. */
  met(): readonly MeshEvent[];
  /** Builds and jobs that clients have open now. */
  sessions(): number;
  /** Resolves when the node has stopped, whoever asked for it. */
  readonly done: Promise<void>;
  stop(): Promise<void>;
}

const chunksMax = 100_000;

/** The search path of the user, where compilers and tools are looked for. */
export interface DaemonOptions extends OpenOptions {
  readonly path: string;
}

/** Codes as `openNode`. Commands that call before it resolves wait for it. */
export async function startDaemon(
  options: DaemonOptions,
  signal: AbortSignal,
): Promise<RunningNode> {
  const node = await openNode(options, signal);
  const { host, owner, store, exchange, execute, paths } = node;
  const stopping = new AbortController();
  try {
    const history = await createHistory(
      { disk: host.disk, clock: host.clock, nameOf: (peer) => nameOf(node, peer) },
      { ...historyDefaults, folder: historyFolder(options.dataDir) },
    );
    const door = await openCompileDoor(node, history);
    const jobs = createJobDoor({ owner, store, exchange, execute }, { chunksMax });
    const shim = await buildShim(
      host,
      { folder: paths.shim, path: options.path, nodePath: process.execPath },
      signal,
    );
    const shims = await createShimServer(
      {
        disk: host.disk,
        clock: host.clock,
        onInvocation: door.onInvocation,
        onTrouble: (message) => node.events.emit({ event: "log", level: "warn", message }),
      },
      { socketPath: paths.shimSocket },
      stopping.signal,
    );
    let stopped: Promise<void> | undefined;
    let sessions = 0;
    const finished = Promise.withResolvers<void>();
    const daemon = {
      node,
      history,
      door,
      jobs,
      shim,
      masquerade: createMasquerade(host, shim, options.path),
      leave: () => void stop(),
    };
    node.serve(async (value, session) => {
      const request = parseControlRequest(value);
      const lasts = request.call === "build" || request.call === "run";
      if (lasts) sessions += 1;
      try {
        return await answer(daemon, request, session);
      } finally {
        if (lasts) sessions -= 1;
      }
    });
    function stop(): Promise<void> {
      stopped ??= (async () => {
        stopping.abort();
        await shims.close();
        await history.close();
        await node.stop();
        finished.resolve();
      })();
      return stopped;
    }
    return {
      node,
      ready: readyOf(node),
      met: () => joinedBefore(node.directory.peers()),
      sessions: () => sessions,
      done: finished.promise,
      stop,
    };
  } catch (error) {
    stopping.abort();
    await node.stop();
    throw error;
  }
}

function nameOf(node: OpenNode, peer: PeerId): string | undefined {
  if (peer === node.self) return node.own.name;
  return node.directory.peers().find(({ id }) => id === peer)?.name;
}
