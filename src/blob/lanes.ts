/** Runs so many things at once and lets the others wait their turn, in order. */

export interface Lanes {
  take<T>(run: () => Promise<T>): Promise<T>;
}

export function createLanes(width: number): Lanes {
  const waiting: (() => void)[] = [];
  let busy = 0;
  return {
    async take(run) {
      if (busy < width) busy += 1;
      else await new Promise<void>((resolve) => void waiting.push(resolve));
      try {
        return await run();
      } finally {
        const next = waiting.shift();
        if (next === undefined) busy -= 1;
        else next();
      }
    },
  };
}
