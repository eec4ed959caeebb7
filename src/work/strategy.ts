/** The names of the ways in which a thief chooses its victims; the first is the default. */

export const strategies = [
  "power-of-two",
  "random",
  "least-loaded",
  "most-loaded",
  "adaptive",
] as const;

export type Strategy = (typeof strategies)[number];
