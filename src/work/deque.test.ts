import fc from "fast-check";
import { expect, test } from "vitest";
import { createDeque, type Queued } from "./deque.ts";

const anyItems = fc
  .array(fc.record({ urgencyMs: fc.nat(5), stealable: fc.boolean() }))
  .map((items) => items.map((item, order): Queued => ({ ...item, order })));

test("every item leaves exactly once, whoever takes it", () => {
  const property = fc.property(anyItems, fc.infiniteStream(fc.nat(3)), (items, takes) => {
    const deque = createDeque<Queued>();
    for (const item of items) deque.push(item);
    const out: Queued[] = [];
    for (const count of takes) {
      if (deque.size === 0) break;
      const taken = count === 0 ? [deque.takeHere()] : deque.stealable.slice(0, count);
      for (const item of taken) if (count > 0 && item !== undefined) deque.remove(item);
      if (taken.length === 0) out.push(...[deque.takeHere()].flatMap((item) => item ?? []));
      out.push(...taken.flatMap((item) => item ?? []));
    }
    expect(out.map(({ order }) => order).sort((a, b) => a - b)).toEqual(
      items.map(({ order }) => order),
    );
  });
  fc.assert(property);
});

test("the most urgent goes first, and equals go in the order they came", () => {
  const deque = createDeque<Queued>();
  const item = (urgencyMs: number, order: number) => ({ urgencyMs, order, stealable: true });
  for (const queued of [item(5, 0), item(9, 1), item(5, 2), item(9, 3)]) deque.push(queued);
  expect(deque.stealable.map(({ order }) => order)).toEqual([1, 3, 0, 2]);
});

test("a slot here takes first what nobody else may run, and a thief never gets it", () => {
  const deque = createDeque<Queued>();
  deque.push({ urgencyMs: 100, order: 0, stealable: true });
  deque.push({ urgencyMs: 1, order: 1, stealable: false });
  expect(deque.stealable.map(({ order }) => order)).toEqual([0]);
  expect(deque.takeHere()).toMatchObject({ order: 1 });
});
