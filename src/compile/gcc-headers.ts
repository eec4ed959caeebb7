/**
 * Everything that the sources of one command may open: the include scan of each, and the compiler's
 * own word where a scan alone cannot tell.
 */
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { type Facts, factsHold, factsUndisturbed } from "../exec/facts.ts";
import type { FileView, Look } from "../exec/file-view.ts";
import type { Toolchain } from "../exec/toolchain.ts";
import type { Clock, Processes } from "../host/host.ts";
import type { ParsedCompile } from "./gcc-args.ts";
import type { CompileEnvironment } from "./gcc-environment.ts";
import { reasonAgainst } from "./gcc-verdict.ts";
import type { IncludeQuery, IncludeScanner, Scan } from "./includes.ts";
import { addEntry } from "./inputs.ts";
import { joinFacts } from "./join-facts.ts";
import { prerequisitesOf } from "./make-rule.ts";
import type { Invocation } from "./plan.ts";
import type { Family } from "./search-path.ts";

export interface HeadersDeps {
  readonly clock: Pick<Clock, "wallMs">;
  readonly scanner: IncludeScanner;
  readonly processes: Processes;
  readonly view: FileView;
}

export interface HeadersQuery {
  readonly invocation: Invocation;
  readonly family: Family;
  readonly parsed: ParsedCompile;
  readonly environment: Extract<CompileEnvironment, { at: "anywhere" }>;
}

export interface Headers {
  /** The caller may add to it. */
  readonly entries: Map<string, TreeEntry>;
  readonly facts: Facts;
  /** Of every source. */
  readonly scans: readonly Scan[];
}

/** Why the command stays here. */
export interface Refused {
  readonly reason: string;
}

export type FindHeaders = (
  query: HeadersQuery,
  toolchain: Toolchain,
  look: Look,
  signal: AbortSignal,
) => Promise<Headers | Refused>;

const askMaxMs = 5 * 60_000;
const answerMaxBytes = 64 * 1024 * 1024;

/** Time stamps of files come from a clock that the kernel moves this seldom, at worst. */
const stampStepMs = 10;

export function createFindHeaders(deps: HeadersDeps): FindHeaders {
  const { clock, scanner, processes, view } = deps;

  /** The files that the compiler's own preprocessor opens. */
  async function askCompiler(
    { invocation, parsed }: HeadersQuery,
    source: string,
    signal: AbortSignal,
  ): Promise<readonly string[]> {
    const { bareArgs, languageName } = parsed;
    const run = await processes.run(
      {
        argv: [invocation.compiler, ...bareArgs, "-x", languageName, "-M", "-MT", "x", source],
        env: invocation.env,
        cwd: invocation.cwd,
        timeoutMs: askMaxMs,
        outputMaxBytes: answerMaxBytes,
      },
      signal,
    );
    const names = run.exitCode === 0 ? prerequisitesOf(textOf(run.stdout)) : undefined;
    if (names === undefined) throw new MeshError("unsupported", `${source} cannot be preprocessed`);
    return names;
  }

  async function scan(
    query: HeadersQuery,
    asked: IncludeQuery,
    signal: AbortSignal,
  ): Promise<Scan | Refused> {
    const { family, parsed, environment } = query;
    const judge = (scanned: Scan): Scan | Refused => {
      const reason = reasonAgainst(scanned, parsed, family, environment.sourceDateEpoch);
      return reason === undefined ? scanned : { reason };
    };
    const found = judge(await scanner.scan(asked, signal));
    if ("reason" in found || !found.unresolved || parsed.assembler === "plain") return found;
    const sinceMs = clock.wallMs() - stampStepMs;
    const also = await askCompiler(query, asked.source, signal);
    const again = await scanner.scan({ ...asked, also, look: view.look() }, signal);
    // What the compiler said is of files as they were then.
    if (
      !factsHold(found.facts, view.look()) ||
      !factsUndisturbed(again.facts, view.look(), sinceMs)
    )
      throw new MeshError("io", `files of ${asked.source} changed while it was planned`);
    return judge(again);
  }

  return async (query, toolchain, look, signal) => {
    const { invocation, family, parsed, environment } = query;
    const { dirs } = parsed;
    const scans: Scan[] = [];
    for (const { source } of parsed.units) {
      const asked: IncludeQuery = {
        family,
        cwd: invocation.cwd,
        source,
        dirs: {
          quote: dirs.quote,
          bracket: [...dirs.bracket, ...environment.dirs.bracket],
          system: [...dirs.system, ...environment.dirs.system],
          after: dirs.after,
        },
        standard: toolchain.includeDirs,
        embedDirs: parsed.embedDirs,
        forced: parsed.forced,
        defined: parsed.defined,
        also: [],
        look,
      };
      const scanned = await scan(query, asked, signal);
      if ("reason" in scanned) return scanned;
      scans.push(scanned);
    }
    const [first, ...others] = scans;
    if (first === undefined) throw new MeshError("malformed", "a compile without a source");
    return merge(first, others);
  };
}

function merge(first: Scan, others: readonly Scan[]): Headers {
  const { entries } = first;
  for (const scan of others) for (const entry of scan.entries.values()) addEntry(entries, entry);
  const facts = joinFacts(first.facts, ...others.map((scan) => scan.facts));
  return { entries, facts, scans: [first, ...others] };
}
