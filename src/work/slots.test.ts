import { expect, test } from "vitest";
import { createSlots } from "./slots.ts";

const never = new AbortController().signal;

test("own work goes before foreign work that waited longer", async () => {
  const slots = createSlots(1);
  const first = slots.tryTake();
  const order: string[] = [];
  const foreign = slots.takeForeign(never).then((slot) => {
    order.push("foreign");
    return slot;
  });
  slots.onFree(() => {
    if (order.length > 0) return;
    const own = slots.tryTake();
    order.push("own");
    queueMicrotask(() => own?.());
  });
  first?.();
  (await foreign)();
  expect(order).toEqual(["own", "foreign"]);
  expect(slots.busy).toBe(0);
});

test("giving a slot back twice frees one place only", () => {
  const slots = createSlots(2);
  const a = slots.tryTake();
  slots.tryTake();
  a?.();
  a?.();
  expect(slots.busy).toBe(1);
});

test("who stops waiting takes no slot", async () => {
  const slots = createSlots(1);
  const held = slots.tryTake();
  const stop = new AbortController();
  const waiting = slots.takeForeign(stop.signal);
  stop.abort("gone");
  await expect(waiting).rejects.toBe("gone");
  held?.();
  expect(slots.busy).toBe(0);
});
