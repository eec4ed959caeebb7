/** The command lines of the runners here: `--help`, and exit code 2 with a line for what is wrong. */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";

/** Says what is wrong, and ends the process as a wrong call. */
export function refuse(what: string): never {
  process.stderr.write(`${what}\n`);
  return process.exit(2);
}

/** The values of this process's options; ends the process after `--help`, and on bad ones. */
export function readOptions<const O extends ParseArgsOptionsConfig>(
  usage: string,
  options: O,
): ReturnType<typeof parseArgs<{ options: O }>>["values"] {
  if (process.argv.slice(2).some((one) => one === "--help" || one === "-h")) {
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  }
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return refuse(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
}

interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** A whole number from an option; ends the process if it is none or out of range. */
export function wholeNumber(name: string, text: string, within: Range = {}): number {
  return numberOf(name, text, "a whole number", /^\d{1,16}$/, within);
}

/** The same for a number that may have decimals. */
export function decimalNumber(name: string, text: string, within: Range = {}): number {
  return numberOf(name, text, "a number", /^\d{1,16}(\.\d{1,6})?$/, within);
}

function numberOf(
  name: string,
  text: string,
  what: string,
  shape: RegExp,
  { min = 0, max = Number.MAX_SAFE_INTEGER }: Range,
): number {
  const value = Number(text);
  if (shape.test(text) && value >= min && value <= max) return value;
  const range = max === Number.MAX_SAFE_INTEGER ? `from ${min} on` : `from ${min} to ${max}`;
  return refuse(`--${name} takes ${what} ${range}, not ${JSON.stringify(text)}`);
}
