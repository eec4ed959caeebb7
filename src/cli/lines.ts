/**
 * Cuts a stream of bytes into lines of text, and refuses a line that never ends.
 *
 * It knows nothing of what the lines say.
 */
import { MeshError } from "../base/errors.ts";

/**
 * Returns the call that takes the next bytes; `onLine` gets each whole line, without its end.
 * The call throws MeshError "malformed" once a line grows beyond `maxChars`; the stream is then
 * of no more use.
 */
export function createLineCutter(
  maxChars: number,
  onLine: (line: string) => void,
): (bytes: Uint8Array) => void {
  const decoder = new TextDecoder();
  let rest = "";
  return (bytes) => {
    const pieces = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = pieces.pop() ?? "";
    for (const piece of pieces) if (piece.trim() !== "") onLine(piece);
    if (rest.length > maxChars) {
      throw new MeshError("malformed", `a line of more than ${maxChars} characters`);
    }
  };
}
