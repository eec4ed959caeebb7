/** What the user looks at: two streams, and what may be done to them. */

export interface Terminal {
  out(text: string | Uint8Array): void;
  err(text: string | Uint8Array): void;
  readonly outTty: boolean;
  readonly errTty: boolean;
  /** Whether text on stdout, on stderr, may be coloured. */
  readonly outColor: boolean;
  readonly errColor: boolean;
  /** Width of the terminal behind stderr, as it is now. */
  columns(): number;
}

export function createTerminal(
  stdout: NodeJS.WriteStream,
  stderr: NodeJS.WriteStream,
  env: NodeJS.ProcessEnv,
): Terminal {
  // A reader that has seen enough (`| head`) is no failure of ours.
  for (const stream of [stdout, stderr]) stream.on("error", ignoreBrokenPipe);
  const outTty = stdout.isTTY === true && env.TERM !== "dumb";
  const errTty = stderr.isTTY === true && env.TERM !== "dumb";
  const colorless = (env.NO_COLOR ?? "") !== "";
  return {
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    outTty,
    errTty,
    outColor: outTty && !colorless,
    errColor: errTty && !colorless,
    // Some pseudo-terminals say 0 until somebody sets their size.
    columns: () => Math.max(20, stderr.columns || 80),
  };
}

/** Resolves when everything written has left this process, so that it may exit. */
export async function flush(...streams: readonly NodeJS.WriteStream[]): Promise<void> {
  for (const stream of streams) {
    if (stream.destroyed || stream.writableEnded) continue;
    await new Promise<void>((resolve) => {
      stream.once("error", () => resolve());
      stream.write("", () => resolve());
    });
  }
}

const codes = { dim: "2", bold: "1", red: "31", green: "32", yellow: "33" } as const;

export type Paint = (style: keyof typeof codes, text: string) => string;

export function painter(color: boolean): Paint {
  return (style, text) => (color ? `\x1b[${codes[style]}m${text}\x1b[0m` : text);
}

function ignoreBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}
