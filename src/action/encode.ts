/**
 * Actions as bytes: the canonical Action and Command messages of the Remote Execution API v2, and
 * the way back with every digest checked.
 *
 * Canonical means: fields in number order (what the codec writes), lists sorted as the `.proto`
 * says, paths relative to the input root `/`.
 */
import { create } from "@bufbuild/protobuf";
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { decodeTree, encodeTree } from "../blob/tree.ts";
import {
  type Action,
  ActionSchema,
  type Command,
  CommandSchema,
} from "../wire/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { decodeMessage, digestFromProto, digestToProto, encodeMessage } from "../wire/messages.ts";
import type { ActionSpec, EncodedAction } from "./action.ts";

/** Encodes an action. Code "malformed" when two inputs claim one path. */
export function encodeAction(spec: ActionSpec): EncodedAction {
  const { root, tree, treeBytes } = encodeTree(spec.inputs);
  const platform = { properties: sortedPairs(spec.platform) };
  const commandBytes = encodeMessage(
    CommandSchema,
    create(CommandSchema, {
      arguments: [...spec.argv],
      environmentVariables: sortedPairs(spec.env),
      workingDirectory: spec.cwd.slice(1),
      // The specification has them relative to the working directory. Ours may lie anywhere in
      // the root, so they stay absolute, which no relative path can be mistaken for.
      outputPaths: [...new Set(spec.outputPaths)].sort(),
      platform,
    }),
  );
  const actionBytes = encodeMessage(
    ActionSchema,
    create(ActionSchema, {
      commandDigest: digestToProto(digestOf(commandBytes)),
      inputRootDigest: digestToProto(root),
      timeout: {
        seconds: BigInt(Math.floor(spec.timeoutMs / 1000)),
        nanos: (spec.timeoutMs % 1000) * 1e6,
      },
      platform,
    }),
  );
  return { digest: digestOf(actionBytes), actionBytes, commandBytes, tree, treeBytes, spec };
}

/**
 * Reads an action that came from a peer. Code "malformed" when the parts do not belong together
 * or a path is not absolute and normal.
 */
export function decodeAction(
  actionBytes: Uint8Array,
  commandBytes: Uint8Array,
  treeBytes: Uint8Array,
): ActionSpec {
  const action = decodeMessage(ActionSchema, actionBytes);
  const command = decodeMessage(CommandSchema, commandBytes);
  if (digestFromProto(action.commandDigest) !== digestOf(commandBytes)) {
    throw new MeshError("malformed", "the command is not the one its action names");
  }
  const spec = {
    argv: command.arguments,
    env: Object.fromEntries(command.environmentVariables.map(({ name, value }) => [name, value])),
    cwd: `/${command.workingDirectory}`,
    outputPaths: command.outputPaths,
    inputs: decodeTree(treeBytes, digestFromProto(action.inputRootDigest)),
    platform: platformOf(action, command),
    timeoutMs: timeoutMsOf(action),
  };
  for (const path of [spec.cwd, ...spec.outputPaths]) assertNormal(path);
  if (spec.argv.length === 0) throw new MeshError("malformed", "the command has no arguments");
  return spec;
}

function platformOf(action: Action, command: Command): Record<string, string> {
  const { properties } = action.platform ?? command.platform ?? { properties: [] };
  return Object.fromEntries(properties.map(({ name, value }) => [name, value]));
}

function timeoutMsOf(action: Action): number {
  const { seconds, nanos } = action.timeout ?? { seconds: 0n, nanos: 0 };
  return Number(seconds) * 1000 + Math.floor(nanos / 1e6);
}

function sortedPairs(pairs: Readonly<Record<string, string>>): { name: string; value: string }[] {
  return Object.keys(pairs)
    .sort()
    .map((name) => ({ name, value: pairs[name] ?? "" }));
}

function assertNormal(path: string): void {
  const parts = path.split("/");
  const normal =
    path === "/" ||
    (parts[0] === "" &&
      parts.slice(1).every((part) => part !== "" && part !== "." && part !== ".."));
  if (!normal || path.includes("\0")) {
    throw new MeshError(
      "malformed",
      `not an absolute, normal path: ${JSON.stringify(path.slice(0, 200))}`,
    );
  }
}
