/** The one line at the bottom of the terminal while a build runs. Pure. */
import { countOf } from "./summary.ts";
import type { Tally } from "./tally.ts";
import type { Paint } from "./terminal.ts";
import type { ToolProgress } from "./tool-lines.ts";

/** What the line is made of. */
export interface LiveView {
  readonly tally: Tally;
  /** No step of the native build has begun: a node is being started. */
  readonly starting: boolean;
  readonly progress: ToolProgress | undefined;
  readonly elapsedMs: number;
  /** Age of the first progress; an estimate counts from there. */
  readonly progressMs: number;
  /** Done when that first progress came: edges skipped at the start took no time. */
  readonly progressFrom: number;
}

/**
 * `mesh 45/143 · 2 here, 6 there · 31 stolen · 10 cached · 2 peers · 0:12, 0:20 left`, cut at the
 * right where the terminal is narrow: what matters most comes first.
 */
export function liveLine(view: LiveView, columns: number, paint: Paint): string {
  const { tally, progress } = view;
  const parts: string[] = [];
  if (progress !== undefined) {
    parts.push(progress.total === 100 ? `${progress.done}%` : `${progress.done}/${progress.total}`);
  } else if (tally.done > 0) parts.push(`${tally.done} done`);
  if (view.starting) parts.push("starting");
  // Without a mesh there is nothing to say about it.
  else if (tally.build !== "") parts.push(...meshParts(tally));
  const leftMs = estimateLeftMs(view);
  parts.push(clock(view.elapsedMs) + (leftMs === undefined ? "" : `, ${clock(leftMs)} left`));
  // One column less: a character in the last one makes some terminals wrap.
  const text = clip(`mesh ${parts.join(" · ")}`, columns - 1);
  return paint("green", text.slice(0, 4)) + paint("dim", text.slice(4));
}

function meshParts(tally: Tally): readonly string[] {
  const cached = tally.cachedHere + tally.cachedMesh;
  return [
    `${tally.runningHere} here, ${tally.runningThere} there`,
    ...(tally.there > 0 ? [`${tally.there} stolen`] : []),
    ...(cached > 0 ? [`${cached} cached`] : []),
    countOf(tally.peers.size, "peer"),
  ];
}

/** Undefined while too little is known: before three steps or two seconds. */
export function estimateLeftMs(view: LiveView): number | undefined {
  const { progress } = view;
  if (progress === undefined) return undefined;
  const done = progress.done - view.progressFrom;
  const left = progress.total - progress.done;
  if (done < 3 || view.progressMs < 2_000 || left <= 0) return undefined;
  return (view.progressMs / done) * left;
}

/**
 * Draws and leaves the cursor where it was, at the start of the line, with the colours it had: a
 * tool may have left one on for its next line.
 */
export function drawLine(line: string): string {
  return `\x1b7\x1b[0m${line}\x1b8`;
}

/** To the end of the screen: a terminal that became narrower shows the line on several rows. */
export const eraseLine: string = "\r\x1b[J";

export function clip(text: string, width: number): string {
  const characters = [...text];
  if (characters.length <= width) return text;
  return `${characters.slice(0, Math.max(0, width - 1)).join("")}…`;
}

function clock(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  return `${Math.floor(seconds / 3600)}:${two(Math.floor((seconds % 3600) / 60))}:${two(seconds % 60)}`;
}
