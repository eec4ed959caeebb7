import fc from "fast-check";
import { expect, test } from "vitest";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { failuresMax, mayHave, queued, step, type TaskEvent, type TaskState } from "./lease.ts";

const thief = asPeerId("thief");
const other = asPeerId("other");

const grant = (
  to: PeerId,
  untilMs = 900,
  endMs = 10_000,
): TaskEvent & { readonly type: "granted" } => ({
  ...{ type: "granted", thief: to, nowMs: 0, untilMs, endMs, waits: false },
});
const leased = step(queued, grant(thief, 500));
const answered: TaskEvent = { type: "answered", thief, attempt: 1, exitCode: 0 };
const committing = step(leased, answered);

test("a thief that falls silent gives the task back to its owner", () => {
  expect(step(leased, { type: "clock", nowMs: 499 })).toBe(leased);
  expect(step(leased, { type: "clock", nowMs: 500 })).toMatchObject({ at: "queued", attempt: 1 });
});

test("a beat keeps the lease, and a beat for an older attempt does not", () => {
  const again = step(step(leased, { type: "thief-left", thief }), grant(other, 900, 10_000));
  const beat = {
    type: "renewed",
    thief: other,
    untilMs: 2000,
    endMs: 20_000,
    running: true,
  } as const;
  expect(step(again, { ...beat, attempt: 1 })).toBe(again);
  expect(step(again, { ...beat, attempt: 2 })).toMatchObject({
    holders: [{ untilMs: 2000, endMs: 20_000, running: true }],
  });
});

test("beats keep what does not run, or runs too long, for a stated time only", () => {
  const beat = { type: "renewed", thief, attempt: 1, untilMs: 99_000, endMs: 50_000 } as const;
  const waiting = step(leased, { ...beat, running: false });
  expect(waiting).toMatchObject({ holders: [{ untilMs: 10_000, running: false }] });
  expect(step(waiting, { type: "clock", nowMs: 10_000 })).toMatchObject({ at: "queued" });
  const running = step(leased, { ...beat, running: true });
  expect(running).toMatchObject({ holders: [{ untilMs: 50_000, running: true }] });
  const later = step(running, { ...beat, endMs: 90_000, running: true });
  expect(later).toMatchObject({ holders: [{ untilMs: 50_000 }] });
  // Saying that it does not run any more buys no second start.
  expect(step(later, { ...beat, endMs: 90_000, running: false })).toMatchObject({
    holders: [{ untilMs: 50_000 }],
  });
});

test("an answer to an older attempt, or from another peer, changes nothing", () => {
  const again = step(step(leased, { type: "clock", nowMs: 500 }), grant(other, 900, 10_000));
  expect(step(again, answered)).toBe(again);
  expect(step(again, { ...answered, attempt: 2 })).toBe(again);
});

test("an answer is taken once, however often it comes", () => {
  expect(step(committing, answered)).toBe(committing);
  const done = step(committing, { type: "committed", attempt: 1 });
  expect(done).toEqual({ at: "done" });
  expect(step(done, answered)).toBe(done);
});

test("a peer's failure is decided by one run here", () => {
  const back = step(leased, { ...answered, exitCode: 2 });
  expect(back).toMatchObject({ at: "queued", hereOnly: "remote exit 2" });
  expect(step(back, grant(other, 900, 10_000))).toBe(back);
  expect(step(back, { type: "started-here" })).toMatchObject({
    at: "here",
    fallback: "remote exit 2",
  });
});

test("a task that peers keep losing stays at home in the end", () => {
  let state: TaskState = queued;
  for (let failure = 1; failure <= failuresMax; failure += 1) {
    state = step(state, grant(asPeerId(`${failure}`), 500, 9000));
    state = step(state, { type: "clock", nowMs: 500 });
  }
  expect(state).toMatchObject({
    at: "queued",
    past: { failures: failuresMax },
    hereOnly: "lease expired",
  });
});

test("nobody gets a task again that it failed at or handed back", () => {
  const reason = "no room";
  for (const type of ["gave-up", "handed-back"] as const) {
    const back = step(leased, { type, thief, attempt: 1, reason, mayHaveAgain: false });
    expect(back).toMatchObject({ at: "queued", hereOnly: undefined });
    expect(mayHave(back, thief)).toBe(false);
    expect(step(back, grant(thief))).toBe(back);
    expect(step(back, grant(other, 900, 10_000))).toMatchObject({
      at: "leased",
      attempt: 2,
    });
  }
});

test("a thief that only had no room at that moment may have the task again", () => {
  const said = { type: "handed-back", thief, attempt: 1, reason: "full" } as const;
  expect(mayHave(step(leased, { ...said, mayHaveAgain: true }), thief)).toBe(true);
});

test("handing back is no failure, however many do it", () => {
  let state: TaskState = queued;
  for (let peer = 1; peer <= 10; peer += 1) {
    const by = asPeerId(`${peer}`);
    state = step(state, grant(by, 500, 9000));
    state = step(state, {
      type: "handed-back",
      thief: by,
      attempt: peer,
      reason: "busy",
      mayHaveAgain: false,
    });
  }
  expect(state).toMatchObject({ at: "queued", past: { failures: 0 }, hereOnly: undefined });
});

test("outputs that cannot be put in place bring the task home", () => {
  const failed = step(committing, { type: "commit-failed", attempt: 1, reason: "blob-missing" });
  expect(failed).toMatchObject({ at: "queued", hereOnly: "blob-missing" });
});

const both = step(leased, grant(other));

test("a backup runs beside the first attempt, and whichever is put in place first wins", () => {
  expect(both).toMatchObject({ at: "leased", attempt: 2, holders: [{ thief }, { thief: other }] });
  const late = step(both, { ...answered, thief: other, attempt: 2 });
  expect(late).toMatchObject({ at: "committing", answerer: { attempt: 2 }, holders: [{ thief }] });
  // The first one's answer comes while the other's outputs are being put in place.
  const over = step(late, answered);
  expect(over).toMatchObject({ at: "committing", answerer: { attempt: 2 }, holders: [] });
  expect(step(over, { type: "committed", attempt: 1 })).toBe(over);
  expect(step(over, { type: "committed", attempt: 2 })).toEqual({ at: "done" });
});

test("no third attempt runs beside two, and nobody backs himself up", () => {
  expect(step(both, grant(asPeerId("third")))).toBe(both);
  expect(step(leased, grant(thief))).toBe(leased);
});

test("a task whose backup is lost stays with its first thief, and the other way round", () => {
  const first = step(both, { type: "thief-left", thief: other });
  expect(first).toMatchObject({ at: "leased", holders: [{ thief }] });
  const second = step(both, { type: "gave-up", thief, attempt: 1, reason: "full" });
  expect(second).toMatchObject({ at: "leased", holders: [{ thief: other }] });
  expect(mayHave(second, thief)).toBe(false);
});

test("when an answer cannot be put in place, the attempt that still runs goes on", () => {
  const late = step(both, answered);
  const back = step(late, { type: "commit-failed", attempt: 1, reason: "blob-missing" });
  expect(back).toMatchObject({ at: "leased", attempt: 2, holders: [{ thief: other }] });
});

test("only a task that nobody has begun is taken back, and its thief may have it again", () => {
  const waiting = step(queued, { ...grant(thief), waits: true });
  const back = step(waiting, { type: "recalled", attempt: 1 });
  expect(back).toMatchObject({ at: "queued", attempt: 1, hereOnly: undefined });
  expect(mayHave(back, thief)).toBe(true);
  const beat = { type: "renewed", thief, attempt: 1, untilMs: 900, endMs: 9000 } as const;
  const running = step(waiting, { ...beat, running: true });
  expect(step(running, { type: "recalled", attempt: 1 })).toBe(running);
  expect(step(both, { type: "recalled", attempt: 2 })).toBe(both);
});

test("whatever a thief says keeps its leases, but none beyond its end", () => {
  const heard = step(both, { type: "heard", thief, untilMs: 99_000 });
  expect(heard).toMatchObject({ holders: [{ untilMs: 10_000 }, { untilMs: 900 }] });
  expect(step(leased, { type: "heard", thief: other, untilMs: 99_000 })).toBe(leased);
});

const anyPeer = fc.constantFrom(thief, other, asPeerId("third"), asPeerId("fourth"));

const anyEvent: fc.Arbitrary<TaskEvent> = fc.oneof(
  fc.record({
    type: fc.constant("granted" as const),
    thief: anyPeer,
    nowMs: fc.nat(3000),
    untilMs: fc.nat(3000),
    endMs: fc.nat(9000),
    waits: fc.boolean(),
  }),
  fc.record({ type: fc.constant("recalled" as const), attempt: fc.nat(4) }),
  fc.record({
    type: fc.constant("heard" as const),
    thief: anyPeer,
    untilMs: fc.nat(3000),
  }),
  fc.record({ type: fc.constant("clock" as const), nowMs: fc.nat(3000) }),
  fc.record({ type: fc.constant("thief-left" as const), thief: anyPeer }),
  fc.record({
    type: fc.constant("answered" as const),
    thief: anyPeer,
    attempt: fc.nat(4),
    exitCode: fc.nat(1),
  }),
  fc.record({
    type: fc.constantFrom("gave-up" as const, "handed-back" as const),
    thief: anyPeer,
    attempt: fc.nat(4),
    reason: fc.constant("no room"),
    mayHaveAgain: fc.boolean(),
  }),
  fc.record({ type: fc.constant("committed" as const), attempt: fc.nat(4) }),
  fc.record({
    type: fc.constant("commit-failed" as const),
    attempt: fc.nat(4),
    reason: fc.constant("x"),
  }),
  fc.constant<TaskEvent>({ type: "started-here" }),
  fc.constant<TaskEvent>({ type: "finished-here" }),
);

test("whatever is lost, doubled or late, attempts only grow and a finished task stays finished", () => {
  const property = fc.property(fc.array(anyEvent, { maxLength: 60 }), (events) => {
    let state: TaskState = queued;
    for (const event of events) {
      const next: TaskState = step(state, event);
      if (state.at === "done") expect(next).toBe(state);
      if ("attempt" in state && "attempt" in next) {
        expect(next.attempt).toBeGreaterThanOrEqual(state.attempt);
      }
      // Only the attempt being put in place can finish there; only a run here can finish here.
      if (next.at === "done" && state.at !== "done")
        expect(["here", "committing"]).toContain(state.at);
      state = next;
    }
  });
  fc.assert(property, { numRuns: 500 });
});
