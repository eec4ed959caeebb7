/**
 * The display for a terminal: the native tool's output scrolls by untouched, one live line of ours
 * stays below it.
 *
 * The line is taken away before anything else is written and is only drawn when the cursor is at
 * the start of a line, so it can never tear what a tool prints.
 */
import { type Display, eventText } from "./display.ts";
import { drawLine, eraseLine, liveLine } from "./live-line.ts";
import type { Tally } from "./tally.ts";
import { painter, type Terminal } from "./terminal.ts";
import { createToolLines, type ToolLines, type ToolProgress } from "./tool-lines.ts";

export interface TtyDeps {
  readonly terminal: Terminal;
  readonly tally: Tally;
  readonly nowMs: () => number;
  /** Calls `run` again and again until the returned call. */
  readonly every: (periodMs: number, run: () => void) => () => void;
}

/** Ten times a second is as often as an eye can use. */
const redrawMs = 100;

export function createTtyDisplay({ terminal, tally, nowMs, every }: TtyDeps): Display {
  const startMs = nowMs();
  const paint = painter(terminal.errColor);
  const lines = new Map<"stdout" | "stderr", ToolLines>();
  let drawn = "";
  let atLineStart = true;
  let closed = false;
  let quiet = false;
  let progress: ToolProgress | undefined;
  let first: { readonly atMs: number; readonly done: number } | undefined;

  const erase = () => {
    if (drawn !== "") terminal.err(eraseLine);
    drawn = "";
  };
  const draw = () => {
    if (closed || !atLineStart) return;
    const now = nowMs();
    const view = {
      tally,
      starting: lines.size === 0,
      progress,
      elapsedMs: now - startMs,
      progressMs: first === undefined ? 0 : now - first.atMs,
      progressFrom: first?.done ?? 0,
    };
    const line = drawLine(liveLine(view, terminal.columns(), paint));
    // The same again would only cost the terminal, and a remote shell's line, something.
    if (line === drawn) return;
    erase();
    drawn = line;
    terminal.err(line);
  };
  const show = (stream: "stdout" | "stderr", bytes: Uint8Array) => {
    if (bytes.byteLength === 0) return;
    erase();
    atLineStart = bytes.at(-1) === 0x0a;
    if (stream === "stdout") terminal.out(bytes);
    else terminal.err(bytes);
  };
  const tick = () => {
    // What waits for the rest of its line is shown once nothing more came for a whole period.
    if (quiet) for (const [stream, held] of lines) show(stream, held.flush());
    quiet = true;
    draw();
  };
  const ownLine = (text: string) => {
    erase();
    terminal.err(`${atLineStart ? "" : "\n"}${text}\n`);
    atLineStart = true;
  };
  const note = (text: string) => ownLine(`${paint("green", "mesh")} ${text}`);
  const endStep = () => {
    for (const [stream, held] of lines) show(stream, held.end());
    lines.clear();
  };
  const stop = every(redrawMs, tick);

  return {
    pipes: { stdout: terminal.outTty, stderr: true },
    note,
    warn: (text) => ownLine(`${paint("yellow", "mesh")} ${text}`),
    see(event) {
      const text = eventText(event);
      if (text !== undefined) note(text);
    },
    step(tool) {
      endStep();
      progress = undefined;
      first = undefined;
      for (const stream of ["stdout", "stderr"] as const) {
        const onProgress = (found: ToolProgress) => {
          progress = found;
          first ??= { atMs: nowMs(), done: found.done };
        };
        lines.set(stream, createToolLines(tool, onProgress));
      }
    },
    tool(stream, bytes) {
      quiet = false;
      show(stream, lines.get(stream)?.take(bytes) ?? bytes);
    },
    close() {
      if (closed) return;
      closed = true;
      stop();
      endStep();
      erase();
      if (!atLineStart) terminal.err("\n");
    },
  };
}
