/**
 * Which planner reads a command line of the gcc family: one for compiles, or one for links. A
 * response file may hide which it is; then the first one is asked, and says.
 */
import { wantsLink } from "./link-args.ts";
import type { Planner } from "./plan.ts";

export function createGccOrLink(gcc: Planner, link: Planner): (args: readonly string[]) => Planner {
  const either: Planner = async (invocation, signal) => {
    const plan = await gcc(invocation, signal);
    const isNoCompile = plan.at === "here" && noCompiles.has(plan.reason);
    return isNoCompile ? link(invocation, signal) : plan;
  };
  return (args) => {
    if (!wantsLink(args)) return gcc;
    return args.some((arg) => arg.startsWith("@")) ? either : link;
  };
}

const noCompiles: ReadonlySet<string> = new Set(["link", "no-c-flag", "no-source"]);
