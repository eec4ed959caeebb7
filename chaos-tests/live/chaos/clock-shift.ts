/**
 * Loaded into a node before anything else (`NODE_OPTIONS=--import`): its wall clock goes wrong by the
 * milliseconds that the file MESH_CHAOS_CLOCK holds.
 *
 * What it shifts is `Date`, where everything that a node calls wall time comes from. It does not
 * shift `performance.now`, the kernel's file times, or the clocks of compilers.
 */
import { readFileSync } from "node:fs";

const lookMs = 100;
const path = process.env.MESH_CHAOS_CLOCK;
const RealDate = Date;
let shiftMs = 0;

function look(): void {
  try {
    shiftMs = Number(readFileSync(path ?? "", "utf8")) || 0;
  } catch {
    shiftMs = 0;
  }
}

if (path !== undefined) {
  look();
  setInterval(look, lookMs).unref();
  const now = (): number => RealDate.now() + shiftMs;
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args: unknown[], newTarget) =>
      Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
    apply: () => new RealDate(now()).toString(),
    get: (target, key, receiver) => (key === "now" ? now : Reflect.get(target, key, receiver)),
  });
}
