import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { encodeTree, type TreeEntry } from "../blob/tree.ts";
import {
  ActionSchema,
  CommandSchema,
} from "../wire/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { digestToProto } from "../wire/messages.ts";
import type { ActionSpec } from "./action.ts";
import { decodeAction, encodeAction } from "./encode.ts";

const file = (path: string, text: string): TreeEntry => ({
  kind: "file",
  path,
  digest: digestOf(utf8(text)),
  executable: false,
});

const spec: ActionSpec = {
  argv: ["/usr/bin/gcc", "-c", "a.c"],
  env: { LANG: "C", B: "2" },
  cwd: "/home/u",
  outputPaths: ["/home/u/a.o"],
  inputs: [file("/home/u/a.c", "int a;"), file("/home/u/b.h", "int b;")],
  platform: { platform: "linux/x86_64" },
  timeoutMs: 1500,
};

const decode = ({ actionBytes, commandBytes, treeBytes }: ReturnType<typeof encodeAction>) =>
  decodeAction(actionBytes, commandBytes, treeBytes);

test("an action comes back as it was", () => {
  expect(decode(encodeAction(spec))).toEqual(spec);
});

test("the order in which things were said does not matter", () => {
  const other = {
    ...spec,
    env: { B: "2", LANG: "C" },
    inputs: spec.inputs.toReversed(),
  };
  expect(encodeAction(other).digest).toBe(encodeAction(spec).digest);
});

test.each<[string, Partial<ActionSpec>]>([
  ["argument", { argv: ["/usr/bin/gcc", "-c", "a.c", "-g"] }],
  ["environment variable", { env: { LANG: "C", B: "3" } }],
  ["working directory", { cwd: "/home" }],
  ["output", { outputPaths: ["/home/u/b.o"] }],
  ["input's bytes", { inputs: [file("/home/u/a.c", "int c;"), file("/home/u/b.h", "int b;")] }],
  ["input's name", { inputs: [file("/home/u/a.c", "int a;"), file("/home/u/c.h", "int b;")] }],
  [
    "swap of two contents",
    { inputs: [file("/home/u/a.c", "int b;"), file("/home/u/b.h", "int a;")] },
  ],
  ["additional input", { inputs: [...spec.inputs, file("/usr/include/b.h", "")] }],
  ["platform", { platform: { platform: "linux/aarch64" } }],
  ["timeout", { timeoutMs: 1501 }],
])("another %s is another action", (_, change) => {
  expect(encodeAction({ ...spec, ...change }).digest).not.toBe(encodeAction(spec).digest);
});

test("parts of two actions do not make one", () => {
  const a = encodeAction(spec);
  const b = encodeAction({ ...spec, argv: ["/bin/rm"], inputs: [] });
  expect(() => decodeAction(a.actionBytes, b.commandBytes, a.treeBytes)).toThrow(/command/);
  expect(() => decodeAction(a.actionBytes, a.commandBytes, b.treeBytes)).toThrow();
});

test.each(["", "relative", "/a/../b", "/a//b", "/a/", "/a\0b"])(
  "the output path %j is refused",
  (path) => {
    expect(() => decode(encodeAction({ ...spec, outputPaths: [path] }))).toThrow(/path/);
  },
);

test("the bytes are those of the generated codec", () => {
  const text = fc
    .string({ unit: "grapheme", maxLength: 200 })
    .filter((some) => some.isWellFormed());
  const pairs = fc.dictionary(text, text, { maxKeys: 6 });
  fc.assert(
    fc.property(
      fc.record({
        argv: fc.array(text, { minLength: 1 }),
        env: pairs,
        cwd: text.map((name) => `/${name}`),
        outputPaths: fc.array(text),
        platform: pairs,
        timeoutMs: fc.nat(10_000_000),
      }),
      (parts) => {
        const whole = { ...spec, ...parts };
        const { actionBytes, commandBytes } = encodeAction(whole);
        const expected = encodeWithCodec(whole);
        expect(Buffer.from(commandBytes).equals(expected.commandBytes)).toBe(true);
        expect(Buffer.from(actionBytes).equals(expected.actionBytes)).toBe(true);
      },
    ),
  );
});

/** The same canonical form, from the message types. */
function encodeWithCodec(whole: ActionSpec): {
  commandBytes: Uint8Array;
  actionBytes: Uint8Array;
} {
  const pairsOf = (pairs: Readonly<Record<string, string>>) =>
    Object.keys(pairs)
      .sort()
      .map((name) => ({ name, value: pairs[name] ?? "" }));
  const platform = { properties: pairsOf(whole.platform) };
  const command = create(CommandSchema, {
    arguments: [...whole.argv],
    environmentVariables: pairsOf(whole.env),
    workingDirectory: whole.cwd.slice(1),
    outputPaths: [...new Set(whole.outputPaths)].sort(),
    platform,
  });
  const commandBytes = toBinary(CommandSchema, command);
  const { timeoutMs } = whole;
  const action = create(ActionSchema, {
    commandDigest: digestToProto(digestOf(commandBytes)),
    inputRootDigest: digestToProto(encodeTree(whole.inputs).root),
    timeout: { seconds: BigInt(Math.floor(timeoutMs / 1000)), nanos: (timeoutMs % 1000) * 1e6 },
    platform,
  });
  return { commandBytes, actionBytes: toBinary(ActionSchema, action) };
}
