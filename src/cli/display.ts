/** What a build shows while it runs. Two forms: display-tty.ts and display-plain.ts. */
import type { ControlEvent } from "../node/control-api.ts";

/** Everything a display prints of its own goes to stderr: stdout is the native tool's. */
export interface Display {
  /** A line of ours, whole. */
  note(text: string): void;
  /** Something worth a warning colour. */
  warn(text: string): void;
  /** An event of the build, after the tally has seen it. */
  see(event: ControlEvent): void;
  /** A step of the native build begins. */
  step(tool: "cargo" | "cmake" | "ninja" | "make" | "other"): void;
  /** What the native tool wrote. Only called for streams in `pipes`. */
  tool(stream: "stdout" | "stderr", bytes: Uint8Array): void;
  /** Which of the native tool's streams come through `tool`; the others it inherits. */
  readonly pipes: { readonly stdout: boolean; readonly stderr: boolean };
  /** Takes the live line away for good. */
  close(): void;
}

/** Changes in the mesh that a person building wants to know, in words. */
export function eventText(event: ControlEvent): string | undefined {
  switch (event.event) {
    case "peer-joined":
      return `${event.name} joined (${event.slots} slots)`;
    case "peer-left":
      return `${event.name} left (${event.reason}): what it was doing is done elsewhere`;
    case "task-compared":
      return event.equal ? undefined : differenceText(event);
    case "log":
      return event.level === "warn" ? event.message : undefined;
    default:
      return undefined;
  }
}

/** Outputs of one task that are named; a compiler seldom has more. */
const differencesShown = 5;

function differenceText({
  label,
  differs,
}: Extract<ControlEvent, { event: "task-compared" }>): string {
  const named = differs.slice(0, differencesShown).map(({ path, atByte }) => {
    return `${path} from byte ${atByte} on`;
  });
  const more = differs.length - named.length;
  const rest = more > 0 ? ` and ${more} more` : "";
  return `${label} came out differently here: ${named.join(", ")}${rest}`;
}
