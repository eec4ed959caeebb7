/** Ctrl-C and its kin, as one signal to stop in order and one to stop at once. */
import { MeshError } from "../base/errors.ts";

export interface Interrupts {
  /** Aborts at the first SIGINT, SIGTERM or SIGHUP. */
  readonly signal: AbortSignal;
  /** Aborts at the second. */
  readonly hurry: AbortSignal;
  /** Which one came first. */
  readonly received: NodeJS.Signals | undefined;
  /** Gives the signals back their usual meaning. */
  close(): void;
}

const names: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** One Ctrl-C may arrive twice, from the terminal and passed on by npx: that is not impatience. */
const doubledMs = 250;

export function createInterrupts(): Interrupts {
  const first = new AbortController();
  const second = new AbortController();
  let received: NodeJS.Signals | undefined;
  let firstMs = 0;
  const onSignal = (name: NodeJS.Signals) => {
    const nowMs = performance.now();
    if (received === undefined) {
      received = name;
      firstMs = nowMs;
      first.abort(new MeshError("cancelled", `stopped by ${name}`));
    } else if (nowMs - firstMs > doubledMs) second.abort(new MeshError("cancelled", name));
  };
  for (const name of names) process.on(name, onSignal);
  return {
    signal: first.signal,
    hurry: second.signal,
    get received() {
      return received;
    },
    close: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}
