/**
 * A running node with its doors open: what `join` keeps in the foreground, and what a build without
 * one starts for itself.
 *
 * It answers the control socket (node/control-api.ts) and the compilers' shims. It prints nothing.
 */
import { encodeAction } from "../action/encode.ts";
import type { MeshEvent } from "../base/events.ts";
import { type CompileDoor, createCompileDoor } from "../compile/door.ts";
import { createGccPlanner } from "../compile/gcc.ts";
import { createInputFiles } from "../compile/inputs.ts";
import { createRustcPlanner } from "../compile/rustc.ts";
import { createRustToolchains } from "../compile/rustc-toolchain.ts";
import { buildShim } from "../compile/shim-build.ts";
import { createShimServer } from "../compile/shim-server.ts";
import { createFileView } from "../exec/file-view.ts";
import { createToolchains } from "../exec/toolchain.ts";
import { createJobDoor } from "../job/job.ts";
import { parseControlRequest, type Ready } from "../node/control-api.ts";
import { type OpenNode, type OpenOptions, openNode } from "../node/open.ts";
import { answer, joinedBefore, readyOf } from "./daemon-calls.ts";

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

const compileMaxMs = 60 * 60 * 1000;
const buildsMax = 64;
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
    const door = createDoor(node);
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
    const daemon = { node, door, jobs, shim, leave: () => void stop(), path: options.path };
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

function createDoor(node: OpenNode): CompileDoor {
  const { host, store, exchange, owner, events, directory, platform, slots } = node;
  const { disk, clock, processes } = host;
  const view = createFileView({ disk, store, clock });
  const files = createInputFiles(view);
  const toolchains = createToolchains({ disk, processes, store, clock, view });
  const options = { platform, timeoutMs: compileMaxMs };
  return createCompileDoor(
    {
      owner,
      clock,
      disk,
      store,
      exchange,
      random: host.random,
      emit: events.emit,
      planGcc: createGccPlanner({ disk, processes, store, toolchains, clock, view }, options),
      planRustc: createRustcPlanner(
        {
          disk,
          clock,
          files,
          toolchains: createRustToolchains({
            disk,
            processes,
            files,
            elfClosure: toolchains.elfClosure,
          }),
        },
        options,
      ),
      encodeAction,
      peersPresent: () => directory.peers().length > 0,
      slotFree: () => slots.busy < slots.count && owner.load().queued === 0,
      cpuMs() {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1000;
      },
    },
    { buildsMax },
  );
}
