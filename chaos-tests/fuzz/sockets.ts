/**
 * The two Unix sockets of a node, with real connections: the control socket and the shims'. Whoever
 * talks nonsense is answered or cut off at once, an honest caller beside it is served, and when all
 * have gone nothing is left open.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concatBytes, textOf, utf8 } from "../../src/base/bytes.ts";
import { MeshError } from "../../src/base/errors.ts";
import { readReplies } from "../../src/compile/shim-replies.ts";
import { createShimServer, type ShimServerDeps } from "../../src/compile/shim-server.ts";
import { createClock } from "../../src/host/clock.ts";
import { createDisk } from "../../src/host/disk.ts";
import { parseControlLine, parseControlRequest } from "../../src/node/control-api.ts";
import { type Answer, serveControl } from "../../src/node/control-server.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { createGrowth } from "./growth.ts";
import { mutate } from "./mutate.ts";
import { mutateJson } from "./mutate-json.ts";
import { shimRequest, shimTalk } from "./shim-bytes.ts";
import { finding, type OpenTarget, type Tally, type Target } from "./target.ts";
import { controlRequests } from "./texts.ts";

const clock = createClock();
const forever = new AbortController().signal;
/** A conversation that takes longer hangs. */
const talkMaxMs = 10_000;
const honestEvery = 16;
const noiseBytes = 4 * 1024 * 1024;

/** Sends pieces, half-closes if asked, and resolves with all that came back. */
function converse(path: string, pieces: readonly Uint8Array[], ends: boolean): Promise<Uint8Array> {
  return clock.withDeadline(
    forever,
    talkMaxMs,
    () =>
      new Promise((resolve) => {
        const socket = connect(path);
        const heard: Uint8Array[] = [];
        socket.on("data", (bytes) => heard.push(bytes));
        socket.on("error", () => {});
        socket.on("close", () => resolve(concatBytes([new Uint8Array(), ...heard])));
        for (const piece of pieces) socket.write(piece);
        if (ends) socket.end();
      }),
  );
}

function piecesOf(random: SeededRandom, bytes: Uint8Array): readonly Uint8Array[] {
  const at = random.below(bytes.byteLength + 1);
  return random.chance(0.3) ? [bytes.subarray(0, at), bytes.subarray(at)] : [bytes];
}

function openFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0;
  }
}

/** What both sockets have in common: a folder, and the checks at the end. */
async function guarded(
  what: string,
  serve: (path: string) => Promise<{ close(): Promise<void> }>,
  talk: (path: string, random: SeededRandom) => Promise<Tally>,
  honest: (path: string) => Promise<void>,
): Promise<OpenTarget> {
  const folder = mkdtempSync(join(tmpdir(), "mesh-fuzz-"));
  const path = join(folder, "sock");
  const server = await serve(path);
  await honest(path);
  const growth = createGrowth(what, noiseBytes);
  const before = openFiles();
  let cases = 0;
  return {
    async run(random) {
      cases += 1;
      const beside = cases % honestEvery === 0 ? honest(path) : undefined;
      const tally = await talk(path, random);
      await beside;
      if (cases % 20 === 0) growth.look();
      return tally;
    },
    async close() {
      await honest(path);
      await clock.sleep(50, forever);
      const after = openFiles();
      await server.close();
      rmSync(folder, { recursive: true, force: true });
      if (after > before + 2) throw finding(`${what} has ${after - before} files open`);
      growth.check();
    },
  };
}

/** As the daemon's: a build waits for its second line, the others answer at once. */
const answer: Answer = async (request, session) => {
  const read = parseControlRequest(request);
  if (read.call !== "build") return { call: read.call };
  session.send({ event: "log", level: "info", message: "begun" });
  return { call: parseControlRequest(await session.next()).call };
};

function controlTalk(random: SeededRandom): readonly Uint8Array[] {
  return Array.from({ length: 1 + random.below(3) }, () => {
    const line = utf8(`${mutateJson(random, controlRequests)}\n`);
    return random.chance(0.3) ? mutate(random, line, []) : line;
  });
}

const control: Target = {
  name: "control-socket",
  share: 2,
  open: () =>
    guarded(
      "the control socket",
      (path) => serveControl(path, answer),
      async (path, random) => {
        const lines = controlTalk(random);
        const bytes = concatBytes(lines);
        const heard = textOf(await converse(path, piecesOf(random, bytes), true));
        const answers = heard.split("\n").filter((line) => line !== "");
        // What is none throws; "io" stands for a bug there.
        const read = answers.map((line) => parseControlLine(line));
        for (const one of read)
          if (one.at === "failed" && one.code === "io") throw finding(one.message, bytes);
        const closing = read.filter(({ at }) => at === "done" || at === "failed");
        if (closing.length > 1) throw finding("more than one closing line", bytes);
        const accepted = read.some(({ at }) => at === "done") ? 1 : 0;
        return { frames: lines.length, accepted };
      },
      async (path) => {
        const heard = textOf(await converse(path, [utf8('{"call":"status"}\n')], false));
        if (heard !== '{"ok":true,"call":"status"}\n') throw finding(`an honest call got ${heard}`);
      },
    ),
};

/** Half of the compilers run with the shim, half of the results are known. */
const onInvocation: ShimServerDeps["onInvocation"] = async (invocation, link, signal) => {
  if (invocation.build === "honest" || invocation.args.length % 2 === 1) {
    await link.exit(7, utf8("out"), utf8("err"));
    return;
  }
  await link.run(["-x"], true, signal);
  link.release();
};

const shims: Target = {
  name: "shim-socket",
  share: 2,
  async open() {
    const troubles: string[] = [];
    let shimsNow = (): number => 0;
    const target = await guarded(
      "the shims' socket",
      async (socketPath) => {
        const server = await createShimServer(
          { disk: createDisk(), clock, onInvocation, onTrouble: (why) => void troubles.push(why) },
          { socketPath },
          forever,
        );
        shimsNow = () => server.shims;
        return server;
      },
      async (path, random) => {
        troubles.length = 0;
        const talk = shimTalk(random);
        const bytes = concatBytes(talk);
        const heard = await converse(path, piecesOf(random, bytes), true);
        if (readReplies(heard).bad) throw finding("the node answered nonsense", bytes);
        if (troubles.some((why) => why === "")) throw finding("trouble without a reason", bytes);
        return { frames: talk.length, accepted: troubles.length === 0 ? 1 : 0 };
      },
      async (path) => {
        const odd = new Uint8Array(shimRequest);
        // One argument the more: its result is known.
        const heard = await converse(path, [oddRequest(odd)], false);
        const [reply] = readReplies(heard).replies;
        if (reply?.type !== "exit" || reply.code !== 7)
          throw finding("an honest shim was let down");
      },
    );
    return {
      run: target.run,
      async close() {
        await clock.sleep(50, forever);
        if (shimsNow() !== 0) throw new MeshError("limit", `${shimsNow()} shims are left`);
        await target.close();
      },
    };
  },
};

/** Renames the build, so that the server knows an honest request. */
function oddRequest(request: Uint8Array): Uint8Array {
  const build = utf8("honest");
  const head = request.slice(0, 32);
  const body = concatBytes([Uint8Array.of(build.byteLength, 0, 0, 0), build, request.subarray(38)]);
  const sizeBytes = 20 + body.byteLength;
  head[8] = sizeBytes & 255;
  head[9] = sizeBytes >> 8;
  return concatBytes([head, body]);
}

export const socketTargets: readonly Target[] = [control, shims];
