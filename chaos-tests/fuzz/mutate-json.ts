/**
 * JSON that is nearly right: wrong types, missing and unknown names, numbers out of their bounds,
 * deep nesting, names that mean something to JavaScript, and text that is no JSON.
 */
import type { SeededRandom } from "../../src/sim/random.ts";
import { pick } from "./mutate.ts";

const odd: readonly [unknown, ...unknown[]] = [
  null,
  true,
  false,
  0,
  -1,
  0.5,
  1e308,
  2 ** 53,
  -(2 ** 31),
  "",
  "status",
  "\u0000",
  "\ud800",
  "/../..",
  [],
  {},
  [[]],
  { call: "build" },
  { length: -1 },
];
/** Stands for lists in lists, which no writer of JSON would put down for us. */
const deep = "\u0001 deep";

const names: readonly [string, ...string[]] = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "",
  "0",
  "then",
  "toJSON",
  "x".repeat(300),
];

function oddValue(random: SeededRandom): unknown {
  const kind = random.below(20);
  if (kind === 0) return "x".repeat(pick(random, [64, 257, 4097, 65_537]));
  if (kind === 1) return Array(pick(random, [9, 33, 257, 5000])).fill(0);
  if (kind === 2) return deep;
  return pick(random, odd);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function change(random: SeededRandom, value: unknown): unknown {
  if (random.chance(0.25)) return oddValue(random);
  if (Array.isArray(value) && value.length > 0) {
    const at = random.below(value.length);
    const kind = random.below(4);
    if (kind === 0) return value.toSpliced(at, 1);
    if (kind === 1) return value.flatMap((one) => [one, one]);
    return value.with(at, change(random, value[at]));
  }
  if (!isObject(value)) return oddValue(random);
  const entries = Object.entries(value);
  if (entries.length === 0) return { [pick(random, names)]: oddValue(random) };
  const kind = random.below(5);
  const at = random.below(entries.length);
  const [name, inner] = entries[at] ?? ["x", undefined];
  if (kind === 0) return Object.fromEntries(entries.toSpliced(at, 1));
  if (kind === 1) return Object.fromEntries([...entries, [pick(random, names), oddValue(random)]]);
  if (kind === 2) return Object.fromEntries(entries.with(at, [pick(random, names), inner]));
  return Object.fromEntries(entries.with(at, [name, change(random, inner)]));
}

/** One line; `values` are right ones. */
export function mutateJson(random: SeededRandom, values: readonly [unknown, ...unknown[]]): string {
  let value = pick(random, values);
  for (let left = 1 + random.below(3); left > 0; left -= 1) value = change(random, value);
  const depth = pick(random, [10, 1000, 20_000]);
  const lists = "[".repeat(depth) + "]".repeat(depth);
  const text = (JSON.stringify(value) ?? "undefined").replaceAll(JSON.stringify(deep), lists);
  const kind = random.below(10);
  if (kind === 0) return text.slice(0, random.below(text.length + 1));
  if (kind === 1) {
    const at = random.below(text.length + 1);
    return text.slice(0, at) + String.fromCharCode(random.below(256)) + text.slice(at + 1);
  }
  if (kind === 2 && random.chance(0.2)) return "[".repeat(pick(random, [100, 10_000, 200_000]));
  return text;
}
