/**
 * Holds what a unit made against what its action says it was made from: sources and variables by
 * the dependency file, bundled libraries by the archive. What was missing is learned.
 */
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { Disk } from "../host/host.ts";
import type { ActionPlan } from "./plan.ts";
import type { RustUnit } from "./rustc-args.ts";
import { checkEnvironment, sourcesIn, variablesIn } from "./rustc-depinfo.ts";
import type { Lessons } from "./rustc-learned.ts";

export interface CheckedUnit {
  readonly unit: RustUnit;
  readonly cwd: string;
  /** As it is here, and as it is in the action. */
  readonly env: Readonly<Record<string, string>>;
  readonly sent: Readonly<Record<string, string>>;
  /** Paths of all inputs, as they were asked for and without symlinks. */
  readonly inputs: ReadonlySet<string>;
}

export function createRustCheck(
  disk: Disk,
  lessons: Lessons,
  checked: CheckedUnit,
): NonNullable<ActionPlan["check"]> {
  const { unit } = checked;
  return async (read) => {
    const bytes = await read(unit.depInfo);
    if (bytes === undefined) throw new MeshError("refused", "the dependency file is missing");
    await checkDepInfo(disk, lessons, checked, textOf(bytes));
    if (!unit.bundles || unit.nativeDirs.length === 0) return;
    for (const path of unit.outputs.filter((output) => output.endsWith(".rlib"))) {
      const archive = await read(path);
      const stranger = archive && strangerIn(archive, unit.crateName);
      if (stranger !== undefined) {
        lessons.add(unit, { never: "native-library" });
        throw new MeshError("refused", `native-library: ${path} holds ${stranger}`);
      }
    }
  };
}

/** Rejects with "refused" when the file names something that the action does not. */
export async function checkDepInfo(
  disk: Disk,
  lessons: Lessons,
  { unit, cwd, env, sent, inputs }: CheckedUnit,
  depInfo: string,
): Promise<void> {
  const misses: string[] = [];
  for (const path of sourcesIn(depInfo, cwd)) {
    if (inputs.has(path)) continue;
    const real = await disk.realPath(path);
    if (real === undefined || !inputs.has(real)) misses.push(path);
  }
  for (const path of misses) lessons.add(unit, { path });
  const unsent = variablesIn(depInfo).flatMap(({ name }) =>
    env[name] !== undefined && sent[name] === undefined ? name : [],
  );
  for (const variable of unsent) lessons.add(unit, { variable });
  if (misses.length > 0) throw new MeshError("refused", `input-miss: ${misses[0]}`);
  checkEnvironment(depInfo, env);
  if (unsent.length > 0) throw new MeshError("refused", `env-miss: ${unsent[0]}`);
}

const archiveMark = "!<arch>\n";
const headerBytes = 60;

/** The name of a member that rustc did not make for this crate. */
export function strangerIn(archive: Uint8Array, crateName: string): string | undefined {
  const text = (start: number, end: number): string => textOf(archive.subarray(start, end));
  if (text(0, archiveMark.length) !== archiveMark) return "no archive";
  let names = "";
  for (let at = archiveMark.length; at + headerBytes <= archive.byteLength; ) {
    const short = text(at, at + 16).trimEnd();
    const sizeBytes = Number(text(at + 48, at + 58).trim());
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) return "no archive";
    const start = at + headerBytes;
    at = start + sizeBytes + (sizeBytes % 2);
    if (short === "//") names = text(start, start + sizeBytes);
    if (short === "/" || short === "//" || short === "/SYM64/") continue;
    const [, offset] = /^\/(\d+)$/.exec(short) ?? [];
    const name =
      offset === undefined
        ? short.replace(/\/$/, "")
        : (names.slice(Number(offset)).split("/\n", 1)[0] ?? "");
    const isOwn = name.startsWith(crateName) && /\.(?:o|bc)$/.test(name);
    if (!isOwn && !/^lib\.rmeta(?:-link)?$/.test(name)) return name;
  }
  return undefined;
}
