import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { macroHash, type Seen, scanSource } from "./scan.ts";

/** Mentions in short: `<a>` and `"b"`, with `next`, `probe` or `probe-next` before them. */
function mentions(text: string): string[] {
  return scanSource(utf8(text)).mentions.map(({ asking, angled, name }) => {
    const quoted = angled ? `<${name}>` : `"${name}"`;
    return asking === "include" ? quoted : `${asking} ${quoted}`;
  });
}

function seen(text: string): (keyof Seen)[] {
  const flags = Object.entries(scanSource(utf8(text)).seen);
  return flags.filter(([, is]) => is).map(([name]) => name as keyof Seen);
}

describe("what a file includes", () => {
  test.each([
    ["#include <a.h>", ["<a.h>"]],
    ['#include "b.h"', ['"b.h"']],
    ['#include<a.h>\n#include"b.h"', ["<a.h>", '"b.h"']],
    ["  #\t include /* why */ <a.h> // really", ["<a.h>"]],
    ["%: include <a.h>", ["<a.h>"]],
    ["/* x */ #include <a.h>", ["<a.h>"]],
    ["/* x\n y */ # /* z */ include <a.h>", ["<a.h>"]],
    ["#include_next <a.h>", ["next <a.h>"]],
    ["#import <a.h>", ["<a.h>"]],
    ["#inc\\\nlude <a.h>", []],
    ["#include \\\n <a.h>", ["<a.h>"]],
    ["#include \\\r\n <a.h>\r\n#include <b.h>\r\n", ["<a.h>", "<b.h>"]],
    ["\u00ef\u00bb\u00bf#include <a.h>", []],
    ["#include <a//b.h>\n#include <c.h>", ["<a//b.h>", "<c.h>"]],
    ["#include <it's.h>\n#include <c.h>", ["<it's.h>", "<c.h>"]],
    ["#include <a.h>\n#include <a.h>", ["<a.h>"]],
    ['#include "with space.h"', ['"with space.h"']],
    ['#include "sch\u00f6n.h"', ['"sch\u00f6n.h"']],
    ["#if 0\n#include <dead.h>\n#endif", ["<dead.h>"]],
    ["x #include <a.h>", []],
    ["int f(); #include <a.h>", []],
    ["", []],
    ["#", []],
    ["#include", []],
  ])("%j includes %j", (text, found) => {
    expect(mentions(text)).toEqual(found);
  });

  test("a byte order mark is passed over", () => {
    const bytes = Uint8Array.of(0xef, 0xbb, 0xbf, ...utf8("#include <a.h>"));
    expect(scanSource(bytes).mentions).toHaveLength(1);
  });
});

describe("what looks like an include but is none", () => {
  test.each([
    ["// #include <a.h>"],
    ["// x \\\n#include <a.h>"],
    ["/*\n#include <a.h>\n*/"],
    ['const char *s = "\\\n#include <a.h>\\\n";'],
    ['auto s = R"(\n#include <a.h>\n)";'],
    ['auto s = u8R"x(\n)"\n#include <a.h>\n)x";'],
    ['#define A "\\\n#include <a.h>"'],
  ])("%j", (text) => {
    expect(mentions(text)).toEqual([]);
  });
});

describe("what must not hide an include on a later line", () => {
  test.each([
    ["it's"],
    ['say "hello'],
    ["int x = 1'000'000; char c = '\\'';"],
    ["char c = '\"';"],
    ["char c = '/'; char d = '*';"],
    ['const char *s = "/*";'],
    ["int n = 0x1'f; // '"],
    ["#error don't /* really */"],
    ['R"'],
    ['#define R "x"\nR"(not raw" ")"'],
    ['LR"(" /* )"'],
    ['auto R = 1; auto x = FOOR"(";'],
    ["a / b; c /d"],
    ["\\"],
    ["// x \\ y"],
    ["#pragma omp parallel for // \"'"],
  ])("%j", (text) => {
    expect(mentions(`${text}\n#include <a.h>\n`)).toEqual(["<a.h>"]);
  });
});

describe("questions about headers", () => {
  test.each([
    ["#if __has_include(<a.h>)", ["probe <a.h>"]],
    ['#if defined(X) && __has_include ( "a.h" )', ['probe "a.h"']],
    ["#if 0\n#elif __has_include(<a>) || __has_include(<b>)", ["probe <a>", "probe <b>"]],
    ["#if X && \\\n __has_include(<a.h>)", ["probe <a.h>"]],
    ["#if __has_include_next(<a.h>)", ["probe-next <a.h>"]],
    ["#if HAS(<a.h>)", ["probe <a.h>"]],
    ["#define H __has_include(<a.h>)", ["probe <a.h>"]],
    ["#ifdef __has_include", []],
    ["#define __has_include(x) 0", []],
    ["#if defined(__has_include)", []],
  ])("%j asks %j", (text, found) => {
    expect(mentions(text)).toEqual(found);
    expect(seen(text)).toEqual([]);
  });

  test("a question about a macro is one that only the compiler can answer", () => {
    expect(seen("#if __has_include(HEADER)")).toEqual(["computedProbe"]);
    expect(seen("#define H __has_include(HEADER)")).toEqual(["computedProbe"]);
  });

  test("a macro that passes its argument on is known by name, and so are its calls", () => {
    const { probingMacros, conditionCalls } = scanSource(
      utf8("#define HAS(x) __has_include(x)\n#if HAS(HEADER) && defined(Y) && __has_builtin(z)"),
    );
    expect([probingMacros, conditionCalls]).toEqual([["HAS"], ["HAS"]]);
  });
});

describe("computed includes", () => {
  test("a macro's name is kept, with the headers it may stand for", () => {
    const text = '#define A <a.h>\n#define A "b.h"\n#define B 1\n#define C(x) <c.h>\n#include A';
    const { includedMacros, headerMacros, otherMacros, seen } = scanSource(utf8(text));
    expect(includedMacros).toEqual(["A"]);
    expect(headerMacros.get("A")?.map(({ name }) => name)).toEqual(["a.h", "b.h"]);
    expect([...otherMacros]).toEqual([macroHash("B"), macroHash("C")]);
    expect(seen.computed).toBe(false);
  });

  test.each([
    ["#include A(b)"],
    ["#include A B"],
    ["#include_next A"],
    ["??=include <a.h>"],
    ["#include <a.h"],
    ["#inc\\\nlude <a.h>"],
  ])("%j is for the compiler", (text) => {
    expect(seen(text)).toEqual(["computed"]);
  });
});

describe("what makes a file mean more than its text", () => {
  test.each([
    ["x = __DATE__;", ["time"]],
    ["#define NOW __TIME__", ["time"]],
    ["f(__TIMESTAMP__)", ["timestamp"]],
    ['asm(".incbin \\"x\\"");', []],
    ['.incbin "x"', ["bareAssembly"]],
    ['.INCLUDE "x"', ["bareAssembly"]],
    ['asm(".incbin " FILE);', ["incbin"]],
    ['asm(".incbin \\"" FILE "\\"");', ["incbin"]],
    [".incbin \\file", ["incbin"]],
    [".include \\file", ["incbin"]],
    ["path.include(x); path.included = 1;", []],
    ["#embed <x>", ["embed"]],
    ["#embed FILE", ["computedEmbed"]],
    ["#if __has_embed(<x>)", ["embed"]],
    ["#if __has_embed(FILE)", ["computedEmbed"]],
    ["#define HAS(x) __has_embed(x)", ["computedEmbed"]],
    ["#ifdef __has_embed", []],
    ["#ifndef __DATE__", []],
    ["#undef __TIME__", []],
    ["#ifdef X __DATE__", ["time"]],
    ["#pragma once", ["once"]],
    ["#import <a.h>", ["once"]],
    ['_Pragma("once")', ["once"]],
    ["import std;", ["modules"]],
    ["export module a;", ["modules"]],
    ["module;", ["modules"]],
    ['#pragma GCC dependency "x"', ["filePragma"]],
    ["#pragma GCC system_header", []],
    ["/* __DATE__ */ // __TIME__", []],
    ['"__DATE__"', []],
    ["__DATE__X MY__DATE__ __DATES__", []],
    ["import_this(); int module_count; exports = 1;", []],
  ])("%j: %j", (text, flags) => {
    expect(seen(text)).toEqual(flags);
  });

  test("files that are embedded or assembled are mentioned", () => {
    const asked = (text: string) =>
      scanSource(utf8(text)).mentions.map(({ asking, angled, name }) => [asking, angled, name]);
    expect(asked('#embed "a.bin" limit(3)\n#if __has_embed(<b.bin> limit(1))\n#endif')).toEqual([
      ["embed", false, "a.bin"],
      ["embed", true, "b.bin"],
    ]);
    expect(asked('asm(".incbin \\"a b.bin\\", 4");\nasm(".include\\t\\"x\\"");')).toEqual([
      ["incbin", false, "a b.bin"],
    ]);
    expect(asked('.include "x.inc"\n.incbin "y.bin", 0, 4')).toEqual([
      ["assemble", false, "x.inc"],
      ["incbin", false, "y.bin"],
    ]);
  });

  test("a header's name that is no UTF-8 is noted", () => {
    const bytes = Uint8Array.of(...utf8('#include "'), 0xe9, ...utf8('.h"'));
    expect(scanSource(bytes).seen.strangeName).toBe(true);
  });
});

test("no text at all makes the scanner throw, hang or overlook a plain include behind it", () => {
  const piece = fc.constantFrom(
    ...["#", "include", "define", "if", " ", "\n", "\\\n", "\\", "'", '"', "(", ")", "<", ">"],
    ...["R", "x", "1", "__has_include", "A", "%:", ",", "??=", "\r", "pragma", "once"],
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      // No comments among the pieces, and raw strings end at `)"` or not at all.
      const text = `${pieces.join("")}\n)"\n\n#include <end.h>\n`;
      const { mentions, seen } = scanSource(utf8(text));
      const found = mentions.some(({ name }) => name.includes("end.h"));
      expect(found || seen.computed || /R"[^(]*\(/.test(text)).toBe(true);
    }),
    { numRuns: 300, seed: 7 },
  );
});
