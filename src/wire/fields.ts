/**
 * Fields of protobuf messages, written by hand where the generated codec would take too long: each
 * compile has hundreds. Knows nothing of any message.
 */

/** What a number takes as a varint. */
export function numberBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) count += 1;
  return count;
}

/** What a length-delimited field takes, for field numbers below 16. */
export function fieldBytes(innerBytes: number): number {
  return 1 + numberBytes(innerBytes) + innerBytes;
}

/** Like the others, gives back the offset behind what it wrote. */
export function writeNumber(target: Buffer, at: number, value: number): number {
  let rest = value;
  let next = at;
  for (; rest >= 128; next += 1) {
    target[next] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  target[next] = rest;
  return next + 1;
}

export function writeHead(target: Buffer, at: number, field: number, innerBytes: number): number {
  target[at] = field;
  return writeNumber(target, at + 1, innerBytes);
}

export function writeText(target: Buffer, at: number, field: number, text: string): number {
  const start = writeHead(target, at, field, Buffer.byteLength(text));
  return start + target.write(text, start, "utf8");
}
