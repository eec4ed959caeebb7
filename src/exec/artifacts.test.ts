import fc from "fast-check";
import { expect, test } from "vitest";
import type { OutputBlob } from "../action/action.ts";
import { concatBytes, textOf, utf8 } from "../base/bytes.ts";
import { emptyDigest } from "../base/digest.ts";
import { createArtifactWatch } from "./artifacts.ts";

const outputPaths = ["/p/out/liba.rmeta", "/p/out/liba.rlib"];

interface Seen {
  readonly text: string;
  readonly paths: readonly string[];
}

async function watch(pieces: readonly Uint8Array[], fails = false): Promise<readonly Seen[]> {
  const seen: Seen[] = [];
  const watching = createArtifactWatch(
    { cwd: "/p", outputPaths },
    async (path): Promise<OutputBlob> => {
      if (fails) throw new Error("cannot read it");
      return { path, digest: emptyDigest, executable: false };
    },
    ({ stderr, outputs }) =>
      void seen.push({ text: textOf(stderr), paths: outputs.map(({ path }) => path) }),
  );
  for (const piece of pieces) watching.onStderr(piece);
  await watching.settled();
  return seen;
}

const text = [
  "warning: unused\n",
  '{"artifact":"/p/out/liba.rmeta","emit":"metadata"}\n',
  '{"artifact":"/etc/passwd"}\n{"artifact":7}\n{not json\n[]\n',
  '{"$message_type":"artifact","artifact":"out/liba.rlib"}\n',
  '{"artifact":"/p/out/liba.rmeta"}\nrest',
].join("");
const expected: readonly Seen[] = [
  {
    text: 'warning: unused\n{"artifact":"/p/out/liba.rmeta","emit":"metadata"}\n',
    paths: ["/p/out/liba.rmeta"],
  },
  {
    text: '{"artifact":"/etc/passwd"}\n{"artifact":7}\n{not json\n[]\n{"$message_type":"artifact","artifact":"out/liba.rlib"}\n',
    paths: ["/p/out/liba.rlib"],
  },
];

test("each output is reported once, with all text since the last report", async () => {
  expect(await watch([utf8(text)])).toEqual(expected);
});

test("however the text is cut into pieces, the reports are the same", () =>
  fc.assert(
    fc.asyncProperty(fc.array(fc.nat(text.length), { maxLength: 20 }), async (cuts) => {
      const bytes = utf8(text);
      const at = [0, ...cuts.sort((a, b) => a - b), bytes.byteLength];
      const pieces = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
      expect(textOf(concatBytes(pieces))).toBe(text);
      expect(await watch(pieces)).toEqual(expected);
    }),
  ));

test("an unfinished line announces nothing", async () => {
  expect(await watch([utf8('{"artifact":"/p/out/liba.rmeta"}')])).toEqual([]);
});

test("a line too long to be an announcement is passed on unread", async () => {
  const long = `{"artifact":"/p/out/liba.rmeta","x":"${"y".repeat(70_000)}"}\n`;
  const [only, ...more] = await watch([utf8(long), utf8('{"artifact":"out/liba.rlib"}\n')]);
  expect(only?.text).toBe(`${long}{"artifact":"out/liba.rlib"}\n`);
  expect(more).toEqual([]);
});

test("an output that cannot be captured spoils the run", async () => {
  await expect(watch([utf8(text)], true)).rejects.toThrow("cannot read it");
});
