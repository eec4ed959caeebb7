/** The names of everything that may go wrong in a run. What each does is `faults.ts`. */
import { type Trick, trickNames } from "./crook.ts";

const plainKinds = [
  "kill",
  "kill-silent",
  "restart",
  "pause",
  "partition",
  "one-way",
  "reset",
  "break",
  "slow-link",
  "lossy-link",
  "slow-host",
  "disk-full",
  "bit-flips",
  "corrupt-blob",
  "corrupt-log",
  "liar",
  "wall-clock",
  "late-timers",
  "slow-disk",
  "join",
  "leave",
  "lose",
] as const;

export type FaultKind = (typeof plainKinds)[number] | `crook-${Trick}`;

export const faultKinds: readonly FaultKind[] = [
  ...plainKinds,
  ...trickNames.map((trick) => `crook-${trick}` as const),
];
