/** What a run found, in words and as JSON. */
import type { Verdict } from "./scenario.ts";

export function failed(verdict: Verdict): boolean {
  const { lost, wrong, leaked, broken } = verdict;
  return [lost, wrong, leaked, broken].some((problems) => problems.length > 0);
}

function counted(entries: readonly (readonly [string, number])[]): string {
  return entries.map(([what, count]) => `${what} ${count}`).join(", ");
}

/** What has to happen some time in a run that is long enough, or it has tested nothing. */
export function neverSeen({ unfired, seen, lies }: Verdict): readonly string[] {
  const taken = [...lies.values()].reduce((sum, lie) => sum + lie.taken, 0);
  return [
    ...unfired.map((kind) => `the fault ${kind} never struck`),
    ...(seen.stolen === 0 ? ["nothing was stolen"] : []),
    ...["lease expired", "peer left"]
      .filter((why) => (seen.requeued[why] ?? 0) === 0)
      .map((why) => `nothing was queued again because: ${why}`),
    ...(seen.refused === 0 ? ["no peer was refused"] : []),
    ...(taken === 0 && lies.size > 0 ? ["the liar was given no task"] : []),
  ];
}

export function closingLine({ fired, builds, jobs, lost, wrong, leaked }: Verdict): string {
  const faults = [...fired.values()].reduce((sum, count) => sum + count, 0);
  return (
    `chaos: ${faults} faults of ${fired.size} kinds, ${builds} builds, ${jobs} jobs, ` +
    `${lost.length} lost, ${wrong.length} wrong, ${leaked.length} leaked`
  );
}

export function describe(verdict: Verdict): string {
  const { fired, skipped, unfired, lies, seen, progressMs, wallMs } = verdict;
  const lines = [
    `faults: ${counted([...fired])}`,
    ...[...skipped].map(([kind, why]) => `skipped: ${kind}: ${why}`),
    ...(unfired.length > 0 ? [`did not strike: ${unfired.join(", ")}`] : []),
    `lies: ${[...lies].map(([lie, { met, refused, taken }]) => `${lie} (heard by ${met}, refused by ${refused}, took ${taken})`).join(", ")}`,
    `tasks: ${seen.stolen} stolen; peers refused ${seen.refused} times`,
    `queued again: ${counted(Object.entries(seen.requeued)) || "never"}`,
    `nodes turned each other away: ${counted(Object.entries(seen.quarrels)) || "never"}`,
    `after a calm, work went on within ${(Math.max(0, ...progressMs) / 1000).toFixed(1)} s at most`,
    `${(wallMs / 1000).toFixed(0)} s in all`,
  ];
  for (const what of ["lost", "wrong", "leaked", "broken"] as const) {
    for (const problem of verdict[what]) lines.push(`${what.toUpperCase()}: ${problem}`);
  }
  return lines.join("\n");
}

export function replayCommand({ seed, minutes, only }: Verdict): string {
  const kinds = only === undefined ? "" : ` --only ${only.join(",")}`;
  return `npm run chaos -- --minutes ${minutes} --seed ${seed}${kinds} --verbose`;
}

/** As one JSON object. */
export function plain(verdict: Verdict, never: readonly string[]): object {
  const { fired, skipped, lies, ...rest } = verdict;
  return {
    ...rest,
    replay: replayCommand(verdict),
    fired: Object.fromEntries(fired),
    skipped: Object.fromEntries(skipped),
    lies: Object.fromEntries(lies),
    never,
    ok: !failed(verdict) && never.length === 0,
  };
}
