/** The display for logs and pipes: whole lines without colour, the native tool's streams untouched. */
import { type Display, eventText } from "./display.ts";
import type { Terminal } from "./terminal.ts";

export function createPlainDisplay(terminal: Pick<Terminal, "err">): Display {
  const note = (text: string) => terminal.err(`mesh: ${text}\n`);
  return {
    pipes: { stdout: false, stderr: false },
    note,
    warn: note,
    see(event) {
      const text = eventText(event);
      if (text !== undefined) note(text);
    },
    step() {},
    tool() {},
    close() {},
  };
}
