/**
 * Which compiles this machine's compiler alone gets right, by what it is, by the words of its
 * command line, and by what its sources say.
 */
import { compilerFamilyOf } from "./compilers.ts";
import type { ParsedCompile } from "./gcc-args.ts";
import type { Scan } from "./includes.ts";
import type { Family } from "./search-path.ts";

/** The largest command line and argument that any Linux can start, with room for the rest. */
const argsMaxBytes = 1_500_000;
const argMaxBytes = 120_000;

/**
 * By the name of the real file: wrappers such as ccache are no compilers, and neither is what is
 * still called `c89` or `c99-gcc` when all links have been followed, a script around one.
 */
export function familyOf(realPath: string): Family | undefined {
  const name = realPath.slice(realPath.lastIndexOf("/") + 1);
  if (compilerFamilyOf(name) !== "gcc" || /^c[89]9/.test(name)) return undefined;
  return name.includes("clang") ? "clang" : "gcc";
}

export function misfitOf(words: readonly string[]): string | undefined {
  let bytes = 0;
  for (const word of words) {
    // The shim's text of bytes that are no UTF-8: such a path cannot be named here.
    if (word.includes("\ufffd")) return "not-utf8";
    const wordBytes = Buffer.byteLength(word);
    if (wordBytes > argMaxBytes) return "too-long";
    bytes += wordBytes + 9;
  }
  return bytes > argsMaxBytes ? "too-long" : undefined;
}

/** What a scan saw that only this machine's compiler gets right. */
export function reasonAgainst(
  { seen, precompiled, twins }: Pick<Scan, "seen" | "precompiled" | "twins">,
  { modern, trickyDefine, assembler }: ParsedCompile,
  family: Family,
  sourceDateEpoch: boolean,
): string | undefined {
  if (seen.strangeName) return "not-utf8";
  if (seen.incbin || (seen.bareAssembly && assembler === "none")) return "incbin";
  // No preprocessor reads it.
  if (assembler === "plain") return undefined;
  if (seen.timestamp || trickyDefine === "timestamp") return "time-macro";
  // Clang learned SOURCE_DATE_EPOCH late.
  const fixedTime = sourceDateEpoch && family === "gcc";
  if ((seen.time || trickyDefine === "time") && !fixedTime) return "time-macro";
  if (seen.computedEmbed) return "embed";
  if (seen.computedProbe) return "computed-has-include";
  if (seen.filePragma) return "file-pragma";
  if (seen.modules && modern && family === "clang") return "modules";
  if (precompiled) return "pch-use";
  return twins ? "twin-headers" : undefined;
}

/**
 * Whether the compiler might open more than was found without its dependency file saying so: an
 * assembler's macros can put together any directive, and no compiler with `#embed` was at hand when
 * this was written.
 */
export function mayHide({ seen }: Pick<Scan, "seen">, { assembler }: ParsedCompile): boolean {
  return assembler !== "none" || seen.embed;
}
