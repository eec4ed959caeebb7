/**
 * Grants as a hostile owner would write them: the parts changed one by one, with the digests of the
 * others put right or not, so that a thief gets as far as it can before it notices.
 */
import { create } from "@bufbuild/protobuf";
import type { ActionSpec } from "../../src/action/action.ts";
import { encodeAction } from "../../src/action/encode.ts";
import { digestOf } from "../../src/base/digest.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { GrantSchema, StealGrantSchema } from "../../src/wire/gen/mesh/v1/mesh_pb.ts";
import { digestToProto, encodeMessage } from "../../src/wire/messages.ts";
import { toolBytes, toolPath } from "../simulator/tool.ts";
import { lieAbout, mutate, pick } from "./mutate.ts";
import { spec } from "./seeds.ts";

/** Its only input is the tool that every host has: a thief can run it. */
const runnable: ActionSpec = {
  ...spec,
  argv: [toolPath, "x", "20", "0", "10"],
  inputs: [{ kind: "file", path: toolPath, digest: digestOf(toolBytes), executable: true }],
};

/** The payload of an answer to a steal request. */
export function grantMessage(random: SeededRandom): Uint8Array {
  const grants = Array.from({ length: random.below(3) + 1 }, (_, index) => {
    const wanted = random.chance(0.5) ? runnable : spec;
    const timeoutMs = random.chance(0.2) ? lieAbout(random, 1000) : wanted.timeoutMs;
    const { actionBytes, commandBytes, treeBytes, tree } = encodeAction({ ...wanted, timeoutMs });
    const change = (chance: number, bytes: Uint8Array): Uint8Array =>
      random.chance(chance) ? mutate(random, bytes, [treeBytes, commandBytes]) : bytes;
    const inline = change(0.3, treeBytes);
    const named = random.chance(0.5) ? digestOf(inline) : tree;
    return create(GrantSchema, {
      task: pick(random, [`t-${index}`, "t-1", "", "x".repeat(129), "\0", "t".repeat(128)]),
      attempt: pick(random, [0, 1, 0xffff_ffff]),
      leaseMs: pick(random, [0, 2000, 0xffff_ffff]),
      kind: pick(random, ["c", "", "x".repeat(200)]),
      label: pick(random, ["a.c", "\u001b[2J", "l".repeat(5000)]),
      action: change(0.3, actionBytes),
      command: change(0.3, commandBytes),
      ...(random.chance(0.95) ? { tree: digestToProto(named) } : {}),
      inlineBlobs: random.chance(0.8) ? [inline] : [],
      expectedMs: lieAbout(random, 100),
      fresh: random.chance(0.5),
      forget: random.chance(0.5),
    });
  });
  const payload = encodeMessage(StealGrantSchema, create(StealGrantSchema, { grants }));
  return random.chance(0.4) ? mutate(random, payload, []) : payload;
}
