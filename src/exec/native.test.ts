import { describe, test } from "vitest";
import { sandboxContract } from "./sandbox.contract.ts";
import { whyNoTier } from "./sandbox-world.contract.ts";

for (const tier of ["bwrap", "unshare"] as const) {
  const why = await whyNoTier(tier);
  if (why === undefined) describe(tier, () => sandboxContract(tier));
  else test.skip(`the ${tier} sandbox cannot be tested on this machine: ${why}`);
}
