/**
 * Says in plain options what -march=native means on this machine, so that another one makes the
 * same code. The plain command line is believed only when the driver makes exactly the same
 * compiler calls of both.
 */
import { createRecentMap } from "../base/bounded.ts";
import { textOf } from "../base/bytes.ts";
import type { Processes } from "../host/host.ts";
import type { ParsedCompile } from "./gcc-args.ts";
import { splitWords } from "./response-file.ts";
import type { Family } from "./search-path.ts";

export interface NativeQuery {
  readonly driver: string;
  readonly family: Family;
  readonly args: readonly string[];
  readonly parsed: ParsedCompile;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Of the compiler: another version may know this machine better. */
  readonly toolchain: string;
}

export interface NativeFlags {
  /** The arguments without native ones; undefined when no equal ones are known. */
  expand(query: NativeQuery, signal: AbortSignal): Promise<readonly string[] | undefined>;
}

type Expansions = ReadonlyMap<string, readonly string[]>;

const askMaxMs = 30_000;
const answerMaxBytes = 4 * 1024 * 1024;

export function createNativeFlags(processes: Processes): NativeFlags {
  const known = createRecentMap<string, Expansions | "unequal">(1024);

  async function compilerCalls(
    { driver, cwd, env, family }: NativeQuery,
    args: readonly string[],
    signal: AbortSignal,
  ): Promise<string[][]> {
    const run = await processes.run(
      {
        argv: [driver, "-###", ...args],
        env: { ...env, LC_ALL: "C" },
        cwd,
        timeoutMs: askMaxMs,
        outputMaxBytes: answerMaxBytes,
      },
      signal,
    );
    if (run.exitCode !== 0) return [];
    const marker = family === "gcc" ? /\/cc1(?:plus)?$/ : /clang[^/]*$/;
    return textOf(run.stderr)
      .split("\n")
      .filter((line) => line.startsWith(" "))
      .map((line) => splitWords(line))
      .filter((words) => family === "gcc" || words[1] === "-cc1")
      .filter((words) => words.length > 1 && (marker.test(words[0] ?? "") || family === "gcc"));
  }

  async function find(query: NativeQuery, signal: AbortSignal): Promise<Expansions | "unequal"> {
    const { parsed, args, family } = query;
    const expansions = new Map<string, readonly string[]>();
    for (const flag of new Set(parsed.nativeFlags)) {
      const probe = [flag, "-c", "-x", parsed.language, "/dev/null", "-o", "/dev/null"];
      const [words] = await compilerCalls(query, probe, signal);
      const plain = words && (family === "gcc" ? plainGcc(words, flag) : plainClang(words, flag));
      if (plain === undefined || plain.length === 0) return "unequal";
      expansions.set(flag, plain);
    }
    const native = await compilerCalls(query, args, signal);
    const plain = await compilerCalls(query, replaced(args, expansions), signal);
    const strict = recordsOptions(args);
    const same = canonical(native, family, strict) === canonical(plain, family, strict);
    return native.length > 0 && same ? expansions : "unequal";
  }

  return {
    async expand(query, signal) {
      const { parsed, args } = query;
      if (parsed.nativeFlags.length === 0) return args;
      const { languageName, makes, bareArgs } = parsed;
      const key = [query.driver, query.toolchain, languageName, makes, ...bareArgs].join("\0");
      const found = known.get(key) ?? (await find(query, signal));
      known.set(key, found);
      return found === "unequal" ? undefined : replaced(args, found);
    },
  };
}

function replaced(args: readonly string[], expansions: Expansions): readonly string[] {
  return args.flatMap((arg) => expansions.get(arg) ?? [arg]);
}

/** The driver turns -march=native into machine options and cache sizes for the compiler. */
function plainGcc(words: readonly string[], flag: string): readonly string[] {
  const plain: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    if (word === "--param") plain.push(word, words[++i] ?? "");
    // A default that the flag did not ask for stays a default.
    else if (word.startsWith("-march=") && !flag.startsWith("-march=")) continue;
    else if (word.startsWith("-m")) plain.push(word);
  }
  return plain;
}

function plainClang(words: readonly string[], flag: string): readonly string[] {
  const plain: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const value = words[i + 1] ?? "";
    if (words[i] === "-target-cpu" && !flag.startsWith("-mtune=")) plain.push(`-march=${value}`);
    else if (words[i] === "-tune-cpu" && flag.startsWith("-mtune=")) plain.push(`-mtune=${value}`);
    else if (words[i] === "-target-feature" && !flag.startsWith("-mtune="))
      plain.push("-Xclang", "-target-feature", "-Xclang", value);
  }
  return plain;
}

/** Debug information names the compiler's options, in their order. */
function recordsOptions(args: readonly string[]): boolean {
  const levels = args.filter((arg) => /^-g(?!0$|record)/.test(arg) || arg === "-g0");
  const debug = levels.length > 0 && levels.at(-1) !== "-g0";
  return debug || args.some((arg) => /^-(?:f|g)record-/.test(arg));
}

/** Compiler calls as one text, without what differs from run to run or has no meaning. */
function canonical(calls: readonly (readonly string[])[], family: Family, strict: boolean): string {
  return calls
    .map((words) => {
      const named = words.map((word) => word.replace(/^.*\/cc[A-Za-z0-9]{6}\.(\w+)$/, "tmp.$1"));
      if (family === "clang") return withSortedFeatures(named).join("\0");
      return (strict ? named : withSortedOptions(named)).join("\0");
    })
    .join("\n");
}

/** The order of -target-feature pairs has no meaning, so long as each comes once. */
function withSortedFeatures(words: readonly string[]): string[] {
  const isFeature = (i: number): boolean => words[i - 1] === "-target-feature";
  const features = words.filter((_, i) => isFeature(i));
  const rest = words.filter((word, i) => !isFeature(i) && word !== "-target-feature");
  return [...rest, ...[...new Set(features)].sort()];
}

/** Machine options, parameters and the others do not act on each other: three lists in order. */
function withSortedOptions(words: readonly string[]): string[] {
  const joined: string[] = [];
  for (let i = 0; i < words.length; i++)
    joined.push(words[i] === "--param" ? `--param=${words[++i]}` : (words[i] ?? ""));
  const isMachine = (word: string): boolean => word.startsWith("-m");
  const isParameter = (word: string): boolean => word.startsWith("--param=");
  const machine = joined.filter(isMachine);
  const parameters = joined.filter(isParameter);
  // The driver says this one twice when options are expanded early.
  const others = joined.filter(
    (word) => !isMachine(word) && !isParameter(word) && word !== "-quiet",
  );
  return [...others, ...machine, ...parameters];
}
