/**
 * The C shim against a node that answers nonsense: whatever it is told, it ends as it should, and
 * when what it is told means nothing the real compiler runs and the build sees what that printed.
 *
 * What is expected follows from protocols/shim.md, read here by a model of a few lines. The shim is
 * built with the compiler's sanitizers where there are any.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concatBytes, textOf } from "../../src/base/bytes.ts";
import { createShimParser } from "../../src/compile/shim-protocol.ts";
import { createClock } from "../../src/host/clock.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { readU32 } from "../../src/wire/frame.ts";
import { pick } from "./mutate.ts";
import { bytesOfHex } from "./seeds.ts";
import { malformShim, nodeReplies } from "./shim-bytes.ts";
import { finding, type Tally, type Target } from "./target.ts";

const clock = createClock();
const forever = new AbortController().signal;
const runMaxMs = 30_000;
const frameMaxBytes = 4 * 1024 * 1024;
const compilerSource = `#include <stdio.h>
int main(int argc, char **argv) { (void)argv; printf("mine %d\\n", argc); return 7; }
`;

/** Answers that the shim once could not take, in hex; they come first. */
const foundBefore: readonly string[] = [
  // Something shown that is empty: memory of size 0 was copied to nowhere.
  "050000000002010000000273686f776e",
];

interface Shown {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/** How far the replies mean something, and what the build sees in the end. */
interface Expected extends Shown {
  readonly understood: number;
  /** The compiler runs for the node, which hears how it ended. */
  readonly runs: boolean;
}

/** @param args what the shim was called with, besides the compiler */
function expectedOf(bytes: Uint8Array, args: number): Expected {
  const shown: readonly [Uint8Array[], Uint8Array[]] = [[], []];
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let understood = 0;
  const compiled = (extra: number, runs: boolean): Expected => ({
    understood,
    runs,
    code: 7,
    stdout: withShown(concatBytes([new Uint8Array(), ...shown[0]]), `mine ${1 + args + extra}\n`),
    stderr: concatBytes([new Uint8Array(), ...shown[1]]),
  });
  for (let at = 0; ; understood += 1) {
    if (bytes.byteLength - at < 5) return compiled(0, false);
    const kind = bytes[at];
    const sizeBytes = readU32(bytes, at + 1);
    const end = at + 5 + sizeBytes;
    if (sizeBytes > frameMaxBytes || end > bytes.byteLength) return compiled(0, false);
    const payload = buffer.subarray(at + 5, end);
    at = end;
    const [first] = payload;
    if (kind === 1) {
      const extra = extraArgsIn(payload);
      return extra === undefined ? compiled(0, false) : compiled(extra, true);
    }
    if (kind === 2 && (first === 1 || first === 2)) {
      shown[first === 1 ? 0 : 1].push(payload.subarray(1));
    } else if (kind === 3 && sizeBytes >= 5 && readU32(payload, 1) <= sizeBytes - 5) {
      const outEnd = 5 + readU32(payload, 1);
      return {
        understood: understood + 1,
        runs: false,
        code: first ?? 0,
        stdout: concatBytes([new Uint8Array(), ...shown[0], payload.subarray(5, outEnd)]),
        stderr: concatBytes([new Uint8Array(), ...shown[1], payload.subarray(outEnd)]),
      };
    } else if (kind !== 5) return compiled(0, false);
  }
}

/** What the build has seen already is not shown again. */
function withShown(shown: Uint8Array, printed: string): Uint8Array {
  const rest = Buffer.from(printed);
  const same = Math.min(shown.byteLength, rest.byteLength);
  const isSame = Buffer.compare(shown.subarray(0, same), rest.subarray(0, same)) === 0;
  return concatBytes([shown, isSame ? rest.subarray(same) : rest]);
}

/** Undefined when it is no RUN. */
function extraArgsIn(payload: Buffer): number | undefined {
  if (payload.byteLength < 8 || readU32(payload, 0) > 1 || readU32(payload, 4) > 64)
    return undefined;
  const count = readU32(payload, 4);
  let at = 8;
  for (let left = count; left > 0; left -= 1) {
    if (payload.byteLength - at < 4) return undefined;
    const sizeBytes = readU32(payload, at);
    if (sizeBytes > payload.byteLength - at - 4) return undefined;
    at += 4 + sizeBytes;
  }
  return count;
}

interface Talk {
  readonly first: Uint8Array;
  /** Sent once the shim says how the compiler ended. */
  readonly afterDone: Uint8Array;
  readonly frames: number;
}

interface Ground {
  readonly folder: string;
  readonly shim: string;
  readonly compiler: string;
  readonly socketPath: string;
}

function build(folder: string): Pick<Ground, "shim" | "compiler"> | undefined {
  const shim = join(folder, "mesh-shim");
  const compiler = join(folder, "cc1");
  writeFileSync(join(folder, "cc.c"), compilerSource);
  const source = join(import.meta.dirname, "../../src/compile/shim.c");
  const made = (args: readonly string[]): boolean => spawnSync("cc", args).status === 0;
  const base = ["-std=c99", "-O1", "-g", "-o", shim, source];
  const sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
  if (!made([...sanitizers, ...base]) && !made(base)) return undefined;
  return made(["-o", compiler, join(folder, "cc.c")]) ? { shim, compiler } : undefined;
}

/** The fake node: reads the request, and answers what the case says. */
function serve(ground: { talk: Talk }, socket: Socket): void {
  const parser = createShimParser();
  const { first, afterDone } = ground.talk;
  let at: "request" | "run" | "over" = "request";
  socket.on("error", () => {});
  socket.on("data", (bytes) => {
    parser.push(bytes);
    if (at === "request" && parser.request().at === "value") {
      at = "run";
      socket.write(first);
      if (!expectedOf(first, 1).runs) socket.end();
    }
    if (at !== "run") return;
    for (let next = parser.frame(); next.at === "value"; next = parser.frame()) {
      if (next.value.type !== "done") continue;
      at = "over";
      socket.end(afterDone);
    }
  });
}

async function call({ shim, compiler, socketPath, folder }: Ground): Promise<Shown> {
  const child = spawn(shim, [compiler, "-c"], {
    cwd: folder,
    env: { MESH_SOCKET: socketPath, ASAN_OPTIONS: "detect_leaks=0", PATH: "/usr/bin:/bin" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (bytes: Buffer) => out.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => err.push(bytes));
  try {
    return await clock.withDeadline(
      forever,
      runMaxMs,
      () =>
        new Promise((resolve, reject) => {
          child.on("error", reject);
          child.on("close", (code, signal) =>
            resolve({
              code: code ?? (signal === null ? -1 : -2),
              stdout: Buffer.concat(out),
              stderr: Buffer.concat(err),
            }),
          );
        }),
    );
  } finally {
    // By its own id, and only if it hangs.
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  }
}

function talkOf(random: SeededRandom): Talk {
  const frames = Array.from({ length: 1 + random.below(4) }, () =>
    malformShim(random, pick(random, nodeReplies), nodeReplies),
  );
  const late = Array.from({ length: random.below(3) }, () =>
    malformShim(random, pick(random, nodeReplies), nodeReplies),
  );
  const first = concatBytes(frames);
  const afterDone = concatBytes([new Uint8Array(), ...late]);
  const { understood, runs } = expectedOf(first, 1);
  const until = runs ? endOf(first, understood + 1) : first.byteLength;
  // What stands behind a RUN is read while the compiler runs.
  const kept = isHarmless(first.subarray(until)) ? first : first.subarray(0, until);
  return {
    first: kept,
    afterDone,
    frames: Math.min(frames.length, understood + 1) + (runs ? late.length : 0),
  };
}

function endOf(bytes: Uint8Array, frames: number): number {
  let at = 0;
  for (let left = frames; left > 0; left -= 1) at += 5 + readU32(bytes, at + 1);
  return at;
}

/** No signal to the compiler, and no half of a frame, for which the shim would wait a while. */
function isHarmless(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.byteLength; ) {
    const sizeBytes = bytes.byteLength - at < 5 ? 0 : readU32(bytes, at + 1);
    if (sizeBytes > frameMaxBytes) return true;
    const end = at + 5 + sizeBytes;
    if (end > bytes.byteLength) return false;
    if (bytes[at] === 4 && sizeBytes === 1) return false;
    if (bytes[at] !== 5) return true;
    at = end;
  }
  return true;
}

export const shimProgram: Target = {
  name: "shim-program",
  share: 0.15,
  async open() {
    const folder = mkdtempSync(join(tmpdir(), "mesh-fuzz-shim-"));
    const programs = build(folder);
    if (programs === undefined) {
      process.stderr.write("shim-program is skipped: there is no cc\n");
      rmSync(folder, { recursive: true, force: true });
      return { run: (): Tally => ({ frames: 0, accepted: 0 }), async close() {} };
    }
    const socketPath = join(folder, "sock");
    const nothing = { first: new Uint8Array(), afterDone: new Uint8Array(), frames: 0 };
    const live: { talk: Talk } = { talk: nothing };
    const server = createServer((socket) => serve(live, socket));
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    const ground: Ground = { ...programs, folder, socketPath };
    async function check(talk: Talk): Promise<Tally> {
      live.talk = talk;
      const seen = await call(ground);
      const wanted = expectedOf(talk.first, 1);
      const isRight =
        seen.code === wanted.code &&
        Buffer.compare(seen.stdout, wanted.stdout) === 0 &&
        Buffer.compare(seen.stderr, wanted.stderr) === 0;
      const said = `${seen.code}, not ${wanted.code}; ${textOf(seen.stdout)}; ${textOf(seen.stderr)}`;
      if (!isRight) throw finding(`the shim ended with ${said}`, talk.first);
      return { frames: talk.frames, accepted: wanted.understood };
    }
    for (const hex of foundBefore) await check({ ...nothing, first: bytesOfHex(hex) });
    return {
      run: (random) => check(talkOf(random)),
      async close() {
        await new Promise((resolve) => server.close(resolve));
        rmSync(folder, { recursive: true, force: true });
      },
    };
  },
};
