import { expect, test } from "vitest";
import { fuzz, replayOf, targets } from "./fuzz.ts";

/** `npm run fuzz` has a million; these are as many as take a few seconds together. */
const framesEach = 150;
/** Each of these starts a process or two. */
const framesSlow = 25;
const seed = "vitest";

test.each(targets.map(({ name }) => name))(
  "%s: nonsense is turned away, harms nobody and leaves nothing behind",
  async (only) => {
    const frames = only === "shim-program" ? framesSlow : framesEach;
    const [report] = await fuzz({ seed, frames, only }, () => {});
    const replays = report?.findings.map((one) => `${one}\n${replayOf(seed, report, 0)}`);
    expect(replays).toEqual([]);
  },
);

test("the same seed makes the same cases, another seed others", async () => {
  const run = async (one: string): Promise<unknown> => {
    const [report] = await fuzz({ seed: one, frames: 60, only: "peers" }, () => {});
    return [report?.cases, report?.frames, report?.accepted];
  };
  expect(await run("a")).toEqual(await run("a"));
  expect(await run("a")).not.toEqual(await run("b"));
});
