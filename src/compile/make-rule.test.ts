import { expect, test } from "vitest";
import { prerequisitesOf } from "./make-rule.ts";

test.each([
  ["a.o: a.c b.h\n", ["a.c", "b.h"]],
  ["a.o: a.c \\\n b.h \\\n  c.h\n\nb.h:\n", ["a.c", "b.h", "c.h"]],
  ["a.o b.o: with\\ space.c a\\#b.h $$x.h\n", ["with space.c", "a#b.h", "$x.h"]],
  ["C\\:x.o: back\\slash.h\n", ["back\\slash.h"]],
  ["x:\n", []],
  ["x: a.c", ["a.c"]],
])("%j names %j", (text, names) => {
  expect(prerequisitesOf(text)).toEqual(names);
});

test("what is no rule has no prerequisites", () => {
  expect(prerequisitesOf("hello")).toBeUndefined();
});
