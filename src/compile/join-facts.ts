/** Facts of several plans as one list. */
import type { Facts } from "../exec/facts.ts";

/**
 * All of them, one behind the other. What several have in common is in it several times, which
 * costs less than finding out: whoever asks whether they hold looks at each thing once anyway.
 */
export function joinFacts(first: Facts, ...others: readonly Facts[]): Facts {
  return {
    files: first.files.concat(...others.map(({ files }) => files)),
    asked: first.asked.concat(...others.map(({ asked }) => asked)),
    versions: first.versions.concat(...others.map(({ versions }) => versions)),
  };
}
