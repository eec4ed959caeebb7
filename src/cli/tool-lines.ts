/**
 * Reads a native tool's output as it passes: how far it is, and which lines are only its status.
 *
 * On a terminal, cargo and ninja overwrite their status instead of scrolling it. Behind a pipe they
 * do not, so this does it for them; every other byte passes unchanged and in order.
 */

/** How far a tool says it is: edges of ninja, crates of cargo, per cent of a makefile. */
export interface ToolProgress {
  readonly done: number;
  readonly total: number;
}

export interface ToolLines {
  /** Takes what a tool wrote; returns what is to be shown now. */
  take(bytes: Uint8Array): Uint8Array;
  /** Returns a last line without an end that has been held back: call it when nothing came for a while. */
  flush(): Uint8Array;
  /** Returns everything still held back. */
  end(): Uint8Array;
}

/** A line that grows beyond this without an end is passed on in pieces. */
const heldMaxChars = 16_384;

export function createToolLines(
  tool: "cargo" | "cmake" | "ninja" | "make" | "other",
  onProgress: (progress: ToolProgress) => void,
): ToolLines {
  // latin1: every byte is one character and comes out again as it was.
  let rest = "";
  let status = "";
  let afterBar = false;
  const folds = tool === "ninja" || tool === "cmake";

  const line = (text: string): string => {
    const progress = readProgress(text);
    if (progress !== undefined) onProgress(progress);
    if (folds && text.endsWith("\n") && ninjaStatus.test(plain(text))) {
      status = text;
      return "";
    }
    const shown = status + text;
    status = "";
    return shown;
  };
  const piece = (text: string): string => {
    if (tool !== "cargo") return line(text);
    // Cargo ends its bar with a return and wipes it before the next line.
    const wiped = afterBar && text.startsWith(wipe) ? text.slice(wipe.length) : text;
    afterBar = text.endsWith("\r") && cargoBar.test(plain(wiped));
    if (!afterBar) return line(wiped);
    const progress = readProgress(wiped);
    if (progress !== undefined) onProgress(progress);
    return "";
  };
  const cut = tool === "cargo" ? /[^\r\n]*(?:\r\n|\r|\n)/y : /[^\n]*\n/y;

  return {
    take(bytes) {
      rest += Buffer.from(bytes).toString("latin1");
      let shown = "";
      let at = 0;
      for (;;) {
        cut.lastIndex = at;
        const found = cut.exec(rest);
        // A return at the very end may be the first half of a line's end.
        if (found === null || (found[0].endsWith("\r") && cut.lastIndex === rest.length)) {
          if (found === null || !cargoBar.test(plain(found[0]))) break;
        }
        at = cut.lastIndex;
        shown += piece(found[0]);
      }
      rest = rest.slice(at);
      if (rest.length > heldMaxChars) {
        shown += line(rest);
        rest = "";
      }
      return Buffer.from(shown, "latin1");
    },
    flush() {
      if (rest === "" || (afterBar && wipe.startsWith(rest))) return Buffer.alloc(0);
      const shown = piece(rest);
      rest = "";
      return Buffer.from(shown, "latin1");
    },
    end() {
      const shown = rest === "" ? status : piece(rest);
      rest = "";
      status = "";
      return Buffer.from(shown, "latin1");
    },
  };
}

const wipe = "\x1b[K";
const ninjaStatus = /^\[\d+\/\d+\] /;
const cargoBar = /^\s*Building \[[=> ]*\] \d+\/\d+/;

/** `[3/20] …`, `[ 12%] …`, `Building [==> ] 3/20: …`; undefined for any other line. */
export function readProgress(line: string): ToolProgress | undefined {
  const text = plain(line.slice(0, 400));
  const counted = /^\[(\d{1,7})\/(\d{1,7})\] /.exec(text);
  const bar = /^\s*Building \[[=> ]*\] (\d{1,7})\/(\d{1,7})/.exec(text);
  const share = /^\[ {0,2}(\d{1,3})%\] /.exec(text);
  const [, done, total] = counted ?? bar ?? share ?? [];
  if (done === undefined) return undefined;
  return { done: Number(done), total: total === undefined ? 100 : Number(total) };
}

/** Without colours and the like. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what such sequences begin with
  return text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");
}
