/**
 * The options of nvcc: one row each, with how its value is written and what it means for where a
 * compile may run. It only knows names; nvcc itself judges whether they fit together.
 */

/** Why a command line is left to the real nvcc as a whole. */
export type NvccReason =
  | "arch-native"
  | "bad-arguments"
  | "device-link"
  | "device-lto"
  | "dependencies-only"
  | "device-only"
  | "host-count"
  | "jobserver"
  | "keep"
  | "link"
  | "no-source"
  | "preprocess-only"
  | "query"
  | "response-file"
  | "run"
  | "several-sources"
  | "source-type"
  | "syntax-only"
  | "time-report"
  | "toolkit-layout"
  | "unknown-flag"
  | "verbose";

export type NvccRole =
  | "pass"
  | "compile"
  | "output"
  | "language"
  | "all-dependencies"
  | "user-dependencies"
  | "dependency-file"
  | "dependency-target"
  | "dependency-phony"
  | "threads"
  | "response-file"
  | "architecture"
  | "forward-unknown"
  | `here:${NvccReason}`;

/** `flag`: no value; `value`: behind `=` or in the next argument. */
export type NvccForm = "flag" | "value";

export interface NvccRow {
  readonly form: NvccForm;
  readonly role: NvccRole;
}

/** Names without dashes; each line is one role. */
const flags: Readonly<Partial<Record<NvccRole, string>>> = {
  pass:
    "allow-unsupported-compiler profile pg debug g device-debug G generate-line-info lineinfo " +
    "no-exceptions noeh shared no-host-device-initializer-list nohdinitlist " +
    "no-host-device-move-forward nohdmoveforward expt-relaxed-constexpr extended-lambda " +
    "expt-extended-lambda m64 no-align-double no-device-link nodlink use_fast_math " +
    "extra-device-vectorization disable-warnings w keep-device-functions restrict Wreorder " +
    "Wdefault-stream-launch Wmissing-launch-bounds Wext-lambda-captures-this " +
    "Wno-deprecated-declarations Wno-deprecated-gpu-targets resource-usage res-usage " +
    "extensible-whole-program ewp no-compress display-error-number err-no " +
    "no-display-error-number no-err-no objdir-as-tempdir objtemp",
  compile: "compile c device-c dc device-w dw",
  "all-dependencies": "generate-dependencies-with-compile MD",
  "user-dependencies": "generate-nonsystem-dependencies-with-compile MMD",
  "dependency-phony": "generate-dependency-targets MP",
  "forward-unknown":
    "forward-unknown-to-host-compiler forward-unknown-to-host-linker forward-unknown-opts",
  "here:device-only": "cuda cubin fatbin ptx optix-ir ltoir",
  "here:preprocess-only": "preprocess E",
  "here:dependencies-only": "generate-dependencies M generate-nonsystem-dependencies MM",
  "here:device-link": "device-link dlink relocatable-link r relocatable-ptx reloc-ptx",
  "here:link": "link lib augment-host-linker-script aug-hls",
  "here:run": "run",
  "here:device-lto": "dlink-time-opt dlto lto gen-opt-lto",
  "here:verbose": "dryrun verbose v",
  "here:syntax-only": "fdevice-syntax-only",
  "here:keep": "keep save-temps clean-targets clean source-in-ptx src-in-ptx",
  "here:toolkit-layout":
    "dont-use-profile noprof compile-as-tools-patch astoolspatch use-local-env force-cl-env-setup",
  "here:jobserver": "jobserver",
  "here:query": "help h version V list-gpu-code code-ls list-gpu-arch arch-ls",
};

const values: Readonly<Partial<Record<NvccRole, string>>> = {
  pass:
    "pre-include include library l define-macro D undefine-macro U include-path I " +
    "system-include isystem library-path L compiler-bindir ccbin archiver-binary arbin cudart " +
    "cudadevrt optimization-info opt-info optimize O Ofast-compile Ofc dopt " +
    "ftemplate-backtrace-limit ftemplate-depth std machine m compiler-options Xcompiler " +
    "linker-options Xlinker archive-options Xarchive ptxas-options Xptxas nvlink-options Xnvlink " +
    "static-global-template-stub device-entity-has-hidden-visibility relocatable-device-code rdc " +
    "entries e maxrregcount ftz prec-div prec-sqrt fmad default-stream Werror diag-error " +
    "diag-suppress diag-warn brief-diagnostics brief-diag jump-table-density jtd " +
    "device-stack-protector compress-mode frandom-seed",
  output: "output-file o",
  language: "x",
  "dependency-file": "dependency-output MF",
  "dependency-target": "dependency-target-name MT",
  threads: "threads t",
  "response-file": "options-file optf",
  architecture: "gpu-architecture arch gpu-code code generate-code gencode",
  "here:link": "host-linker-script hls",
  "here:keep": "keep-dir output-directory odir",
  "here:toolkit-layout":
    "libdevice-directory ldir target-directory target-dir qpp-config input-drive-prefix idp " +
    "dependency-drive-prefix ddp drive-prefix dp sanitize",
  // What the machine has decides how the work is cut.
  "here:host-count": "split-compile split-compile-extended",
  "here:time-report": "fdevice-time-trace time",
  "here:run": "run-args",
};

/** One letter and its value may be one word. */
const joined: ReadonlySet<string> = new Set(["D", "U", "I", "L", "l", "O"]);

const rows: ReadonlyMap<string, NvccRow> = new Map([
  ...rowsOf(flags, "flag"),
  ...rowsOf(values, "value"),
]);

export interface NvccOption {
  readonly row: NvccRow;
  /** Undefined when the value is the next argument, or there is none. */
  readonly value: string | undefined;
}

/** What an argument that starts with a dash is; undefined when no row fits. */
export function nvccOption(arg: string): NvccOption | undefined {
  const name = arg.replace(/^--?/, "");
  const equals = name.indexOf("=");
  const whole = rows.get(equals < 0 ? name : name.slice(0, equals));
  if (whole !== undefined) {
    return { row: whole, value: equals < 0 ? undefined : name.slice(equals + 1) };
  }
  const letter = name.slice(0, 1);
  const row = joined.has(letter) && !arg.startsWith("--") ? rows.get(letter) : undefined;
  return row === undefined ? undefined : { row, value: name.slice(1) };
}

function rowsOf(
  table: Readonly<Partial<Record<NvccRole, string>>>,
  form: NvccForm,
): [string, NvccRow][] {
  return Object.entries(table).flatMap(([role, names]) =>
    names.split(" ").map((name): [string, NvccRow] => [name, { form, role: role as NvccRole }]),
  );
}
