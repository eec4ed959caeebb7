import { expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import type { Clock } from "../host/host.ts";
import { createCalls } from "./call.ts";
import { type Frame, frameOf, noPayload } from "./frame.ts";

const forever = new AbortController().signal;

/** A clock that stands still until the test ends a deadline by hand. */
function stoppedClock(): { clock: Clock; expire: () => void } {
  const pending = new Set<() => void>();
  return {
    expire: () => {
      for (const end of [...pending]) end();
    },
    clock: {
      nowMs: () => 0,
      wallMs: () => 0,
      sleep: () => Promise.reject(new Error("not used here")),
      async withDeadline(parent, _durationMs, run) {
        const own = new AbortController();
        const end = (): void => own.abort(new MeshError("deadline", "too late"));
        const pass = (): void => own.abort(parent.reason);
        pending.add(end);
        parent.addEventListener("abort", pass);
        try {
          return await run(own.signal);
        } finally {
          pending.delete(end);
          parent.removeEventListener("abort", pass);
        }
      },
    },
  };
}

function setUp(openMax = 4) {
  const sent: Frame[] = [];
  const { clock, expire } = stoppedClock();
  const queue = { accepts: true };
  const calls = createCalls(
    {
      clock,
      send(frame) {
        if (queue.accepts) sent.push(frame);
        return queue.accepts;
      },
    },
    { openMax, deadlineMs: 2000 },
  );
  return { calls, sent, expire, queue };
}

test("each answer reaches the question with its number, in any order", async () => {
  const { calls, sent } = setUp();
  const answers = [1, 2, 3].map((type) => calls.ask(type, noPayload, forever));
  for (const question of sent.toReversed()) {
    expect(calls.answer(frameOf(question.type + 100, { requestId: question.requestId }))).toBe(
      true,
    );
  }
  expect((await Promise.all(answers)).map((frame) => frame.type)).toEqual([101, 102, 103]);
  expect(calls.open()).toBe(0);
});

test("an answer that nobody waits for is no fault", async () => {
  const { calls, sent, expire } = setUp();
  expect(calls.answer(frameOf(1, { requestId: 99 }))).toBe(false);
  const late = calls.ask(1, noPayload, forever);
  expire();
  await expect(late).rejects.toMatchObject({ code: "deadline" });
  expect(calls.answer(frameOf(2, { requestId: sent[0]?.requestId ?? 0 }))).toBe(false);
});

test("open questions are bounded", async () => {
  const { calls } = setUp(2);
  const open = [calls.ask(1, noPayload, forever), calls.ask(1, noPayload, forever)];
  await expect(calls.ask(1, noPayload, forever)).rejects.toMatchObject({ code: "limit" });
  calls.fail(new MeshError("peer-gone", "over"));
  for (const question of open) await expect(question).rejects.toMatchObject({ code: "peer-gone" });
  await expect(calls.ask(1, noPayload, forever)).rejects.toMatchObject({ code: "peer-gone" });
});

test("a question that cannot be sent fails at once, and an aborted one is forgotten", async () => {
  const { calls, queue } = setUp();
  const aborter = new AbortController();
  const aborted = calls.ask(1, noPayload, aborter.signal);
  aborter.abort(new Error("enough"));
  await expect(aborted).rejects.toThrow("enough");
  queue.accepts = false;
  await expect(calls.ask(1, noPayload, forever)).rejects.toMatchObject({ code: "peer-gone" });
  expect(calls.open()).toBe(0);
});
