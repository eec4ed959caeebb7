import fc from "fast-check";
import { expect, test } from "vitest";
import { createToolLines, readProgress, type ToolProgress } from "./tool-lines.ts";

type Tool = Parameters<typeof createToolLines>[0];

function pass(tool: Tool, ...chunks: readonly string[]): { shown: string; seen: ToolProgress[] } {
  const seen: ToolProgress[] = [];
  const lines = createToolLines(tool, (progress) => seen.push(progress));
  const parts = chunks.map((chunk) => lines.take(Buffer.from(chunk)));
  return { shown: Buffer.concat([...parts, lines.end()]).toString(), seen };
}

test.each([
  ["[3/20] Building CXX object a.o", { done: 3, total: 20 }],
  ["[ 12%] Building CXX object a.o", { done: 12, total: 100 }],
  ["[100%] Built target a", { done: 100, total: 100 }],
  ["\x1b[1m\x1b[96m    Building\x1b[0m [====>   ] 7/31: a, b  ", { done: 7, total: 31 }],
  ["   Compiling serde v1.0.0", undefined],
  ["array[3/20] = 1;", undefined],
  ["[info] 3/20", undefined],
])("%j reads as %j", (line, progress) => {
  expect(readProgress(line)).toEqual(progress);
});

test("every byte of an unknown tool passes, whatever it is and however it is cut", () => {
  const tools = fc.constantFrom<Tool>("make", "other");
  fc.assert(
    fc.property(
      tools,
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }),
      (tool, all) => {
        const lines = createToolLines(tool, () => {});
        const shown = all.map((bytes) => lines.take(bytes));
        expect(Buffer.concat([...shown, lines.end()])).toEqual(Buffer.concat(all));
      },
    ),
  );
});

test("ninja's status lines stay back, except the one that a message belongs to and the last", () => {
  const { shown, seen } = pass(
    "ninja",
    "[1/4] CC a.o\n[2/4] CC b.o\nb.c:1: warn",
    "ing: x\n[3/4] CC c.o\n",
    "[4/4] LINK x\n",
  );
  expect(shown).toBe("[2/4] CC b.o\nb.c:1: warning: x\n[4/4] LINK x\n");
  expect(seen.map(({ done }) => done)).toEqual([1, 2, 3, 4]);
});

test("a failure shows its command, as on a terminal", () => {
  const { shown } = pass(
    "ninja",
    "[1/2] CC a.o\nFAILED: a.o\ncc -c a.c\na.c:1: error\nninja: stop\n",
  );
  expect(shown).toBe("[1/2] CC a.o\nFAILED: a.o\ncc -c a.c\na.c:1: error\nninja: stop\n");
});

test("cargo's bar is read and taken out, its lines pass", () => {
  const bar = (done: number) =>
    `\x1b[1m\x1b[96m    Building\x1b[0m [==>      ] ${done}/3: b, a    \r`;
  const text = `   Compiling b\n${bar(0)}\x1b[K   Compiling a\n${bar(1)}${bar(2)}\x1b[Kwarning: x\r\n  Finished\n`;
  for (const size of [1, 7, 1000]) {
    const chunks = text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
    const { shown, seen } = pass("cargo", ...chunks);
    expect(shown).toBe("   Compiling b\n   Compiling a\nwarning: x\r\n  Finished\n");
    expect(seen.map(({ done }) => done)).toEqual([0, 1, 2]);
  }
});

test("another program's returns pass through cargo: a test that draws a bar of its own", () => {
  const text = "50%\r100%\r\ndone\n";
  expect(pass("cargo", text).shown).toBe(text);
});

test("a prompt without a line end is held only until it is asked for", () => {
  const lines = createToolLines("make", () => {});
  expect(lines.take(Buffer.from("Overwrite? ")).toString()).toBe("");
  expect(lines.flush().toString()).toBe("Overwrite? ");
  expect(lines.flush().toString()).toBe("");
  expect(lines.take(Buffer.from("y\n")).toString()).toBe("y\n");
});

test("a line that never ends is passed on in pieces and does not grow", () => {
  const lines = createToolLines("ninja", () => {});
  const shown = Array.from({ length: 40 }, () => lines.take(Buffer.alloc(1000, 97)));
  expect(Buffer.concat(shown).length).toBeGreaterThan(16_000);
  expect(Buffer.concat([...shown, lines.end()]).length).toBe(40_000);
});
