/**
 * Actions as bytes: the canonical Action and Command messages of the Remote Execution API v2, and
 * the way back with every digest checked.
 *
 * Canonical means: fields in number order, lists sorted as the `.proto`
 * says, paths relative to the input root `/`.
 */
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { decodeTree, encodeTree } from "../blob/tree.ts";
import {
  type Action,
  ActionSchema,
  type Command,
  CommandSchema,
} from "../wire/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { decodeMessage, digestFromProto } from "../wire/messages.ts";
import type { ActionSpec, EncodedAction } from "./action.ts";
import { writeAction, writeCommand } from "./action-bytes.ts";

/** Encodes an action; its tree when it is first asked for. Code "malformed" when two inputs claim one path. */
export function encodeAction(spec: ActionSpec): EncodedAction {
  const inputs = encodeTree(spec.inputs);
  const commandBytes = writeCommand(spec);
  const actionBytes = writeAction(digestOf(commandBytes), inputs.root, spec);
  return {
    digest: digestOf(actionBytes),
    actionBytes,
    commandBytes,
    get tree() {
      return inputs.tree;
    },
    get treeBytes() {
      return inputs.treeBytes;
    },
    spec,
  };
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

function assertNormal(path: string): void {
  const parts = path.split("/");
  const normal =
    path === "/" ||
    (parts.length > 1 &&
      parts[0] === "" &&
      parts.slice(1).every((part) => part !== "" && part !== "." && part !== ".."));
  if (!normal || path.includes("\0")) {
    throw new MeshError(
      "malformed",
      `not an absolute, normal path: ${JSON.stringify(path.slice(0, 200))}`,
    );
  }
}
