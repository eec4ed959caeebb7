/**
 * The places at which this node runs something, its own tasks and foreign ones alike.
 *
 * Whoever waits is served in two classes: own work before foreign, first come first served within
 * each. A slot is given back by calling it once.
 */

export interface Slots {
  readonly count: number;
  readonly busy: number;
  /** Takes a free slot at once, before any foreign task that waits. */
  tryTake(): Slot | undefined;
  /** Waits for a slot behind all own work. Rejects with `signal.reason` on abort. */
  takeForeign(signal: AbortSignal): Promise<Slot>;
  /** Called whenever a slot came free and before a waiting foreign task gets it. */
  onFree(listener: () => void): void;
}

/** Gives the slot back; further calls do nothing. */
export type Slot = () => void;

export function createSlots(count: number): Slots {
  let busy = 0;
  const waiting: { readonly give: (slot: Slot) => void }[] = [];
  const listeners: (() => void)[] = [];

  function take(): Slot {
    busy += 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      busy -= 1;
      for (const listener of listeners) listener();
      if (busy < count) waiting.shift()?.give(take());
    };
  }

  return {
    count,
    get busy() {
      return busy;
    },
    tryTake: () => (busy < count ? take() : undefined),
    takeForeign(signal) {
      signal.throwIfAborted();
      if (busy < count && waiting.length === 0) return Promise.resolve(take());
      return new Promise((resolve, reject) => {
        const entry = {
          give(slot: Slot) {
            signal.removeEventListener("abort", onAbort);
            resolve(slot);
          },
        };
        const onAbort = () => {
          const index = waiting.indexOf(entry);
          if (index >= 0) waiting.splice(index, 1);
          reject(signal.reason);
        };
        waiting.push(entry);
        signal.addEventListener("abort", onAbort, { once: true });
      });
    },
    onFree: (listener) => void listeners.push(listener),
  };
}
