/**
 * The owner's queue: the most urgent first, then first come first served.
 *
 * Tasks that may only run here are kept apart, so that a thief's look costs nothing for them and a
 * free slot takes them first: nobody else will. Insertion is a binary search; both ends are arrays,
 * because one event loop needs no lock-free deque.
 */

export interface Queued {
  /** Of two tasks the one with the longer way to the end of its build goes first. */
  readonly urgencyMs: number;
  readonly order: number;
  readonly stealable: boolean;
}

export interface Deque<T extends Queued> {
  readonly size: number;
  /** What peers may have, most urgent first. */
  readonly stealable: readonly T[];
  push(item: T): void;
  /** What a free slot here should run next. */
  takeHere(): T | undefined;
  remove(item: T): boolean;
}

export function createDeque<T extends Queued>(): Deque<T> {
  const hereOnly: T[] = [];
  const stealable: T[] = [];
  const listOf = (item: T) => (item.stealable ? stealable : hereOnly);
  return {
    get size() {
      return hereOnly.length + stealable.length;
    },
    stealable,
    push(item) {
      const list = listOf(item);
      list.splice(placeOf(list, item), 0, item);
    },
    takeHere: () => hereOnly.shift() ?? stealable.shift(),
    remove(item) {
      const list = listOf(item);
      const index = list.indexOf(item);
      if (index >= 0) list.splice(index, 1);
      return index >= 0;
    },
  };
}

/** First index whose item comes after `item`. */
function placeOf<T extends Queued>(list: readonly T[], item: T): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const other = list[middle];
    if (other !== undefined && comesBefore(other, item)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function comesBefore(a: Queued, b: Queued): boolean {
  return a.urgencyMs === b.urgencyMs ? a.order < b.order : a.urgencyMs > b.urgencyMs;
}
