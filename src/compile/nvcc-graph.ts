/**
 * The commands of a dry run as a graph of steps: what each reads and writes, under names that do
 * not change from run to run. It is given words and gives words; no file is looked at.
 *
 * nvcc names its intermediate files after its process and a counter. Some of those names end up in
 * the object: that of the host source and, with debug information, those of what it includes. They
 * are what they would be for the first process of a machine. All others are named after what is in them, so that
 * the steps of one architecture are the same whatever other architectures there are.
 */

export type NvccTool = "host-preprocess" | "host-compile" | "cudafe" | "cicc" | "ptxas" | "fatbin";

export interface NvccNode {
  readonly tool: NvccTool;
  /** As nvcc names it: to be looked for in its PATH, or with a folder. */
  readonly program: string;
  readonly args: readonly string[];
  /** Intermediate files by absolute path. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** For people: "compute_80", "sm_80", "host". */
  readonly part: string;
}

export interface NvccGraph {
  /** In the order of a plain run: each step's inputs are outputs of earlier ones. */
  readonly nodes: readonly NvccNode[];
  /** The object, as typed. */
  readonly object: string;
  /** Files that a device step makes and the host compile opens under another name: to, from. */
  readonly copies: ReadonlyMap<string, string>;
}

/** A path in nvcc's folder for intermediate files: process, counter, name. */
const temporary = /^(?:.*\/)?tmpxft_[0-9a-f]+_[0-9a-f]+-(\d+)_(.+)$/s;
const temporaryAnywhere = /tmpxft_[0-9a-f]+_[0-9a-f]+-\d+_/;

interface Names {
  readonly folder: string;
  /** nvcc's name, without its folder, to ours. */
  readonly known: Map<string, string>;
}

/**
 * @param folder for intermediate files
 * @param source as typed
 * @returns undefined when these are no commands of one source to one object that are understood
 */
export function readGraph(
  commands: readonly (readonly string[])[],
  folder: string,
  source: string,
): NvccGraph | undefined {
  const names: Names = { folder, known: new Map() };
  const drafts = commands.map(([program = "", ...args]) => ({ program, args }));
  const stub = nameSharedFiles(drafts, names);
  if (!nameDeviceFiles(drafts, names)) return undefined;
  const nodes: NvccNode[] = [];
  const copies = new Map<string, string>();
  for (const { program, args } of drafts) {
    const node = readCommand(program, args, names, source);
    if (node === undefined) return undefined;
    nodes.push(node);
    const own = node.tool === "cicc" ? optionValue(args, "--stub_file_name") : undefined;
    if (stub !== undefined && own !== undefined && baseName(own) === stub)
      copies.set(keptName(names, stub), `${folder}/${node.part}.stub.c`);
  }
  const last = nodes.at(-1);
  const object = last?.tool === "host-compile" ? optionValue(last.args, "-o") : undefined;
  if (object === undefined || nodes.filter(({ tool }) => tool === "host-compile").length !== 1)
    return undefined;
  return isClosed(nodes, copies) ? { nodes, object, copies } : undefined;
}

interface DraftCommand {
  readonly program: string;
  readonly args: readonly string[];
}

/** Names that reach the object keep their form. Returns the stub that the host source includes. */
function nameSharedFiles(drafts: readonly DraftCommand[], names: Names): string | undefined {
  let stub: string | undefined;
  for (const { program, args } of drafts) {
    for (const word of args) {
      const path = word.replace(/^--embedded-fatbin=/, "");
      const fatbin = path !== word || /\.fatbin\.c$/.test(word);
      if (fatbin && temporary.test(path)) names.known.set(baseName(path), keptName(names, path));
    }
    if (baseName(program) !== "cudafe++") continue;
    const host = optionValue(args, "--gen_c_file_name");
    if (host !== undefined) names.known.set(baseName(host), keptName(names, host));
    stub = optionValue(args, "--stub_file_name");
    const id = optionValue(args, "--module_id_file_name");
    if (id !== undefined) names.known.set(baseName(id), `${names.folder}/module_id`);
    const text = args.at(-1);
    if (text !== undefined) names.known.set(baseName(text), `${names.folder}/host.ii`);
  }
  return stub;
}

/** Everything of one architecture is named after it. False when two would have one name. */
function nameDeviceFiles(drafts: readonly DraftCommand[], names: Names): boolean {
  const taken = new Set<string>();
  // With debug information, the assembler records its own command line.
  const recorded = drafts.some(
    ({ program, args }) => baseName(program) === "ptxas" && args.includes("-g"),
  );
  const name = (path: string | undefined, ours: string): boolean => {
    if (path === undefined || !temporary.test(path)) return false;
    if (taken.has(ours)) return false;
    taken.add(ours);
    names.known.set(baseName(path), `${names.folder}/${ours}`);
    return true;
  };
  for (const { program, args } of drafts) {
    const tool = baseName(program);
    if (tool === "cicc") {
      const part = optionValue(args, "-arch");
      if (part === undefined || !/^\w+$/.test(part)) return false;
      const output = optionValue(args, "-o") ?? "";
      if (!name(output, recorded ? baseName(keptName(names, output)) : `${part}.ptx`)) return false;
      if (!name(args.filter((word) => word.endsWith(".ii")).at(-1), `${part}.ii`)) return false;
      // nvcc uses one base name for these.
      const ends = { "--gen_c_file_name": "c", "--gen_device_file_name": "gpu" };
      for (const [option, end] of Object.entries(ends))
        if (!name(optionValue(args, option), `${part}.${end}`)) return false;
      const stub = optionValue(args, "--stub_file_name");
      if (stub === undefined) return false;
      taken.add(`${part}.stub.c`);
    } else if (tool === "ptxas") {
      const part = args.find((word) => word.startsWith("-arch="))?.slice("-arch=".length);
      const from = args.find((word) => word.endsWith(".ptx"));
      const by = from === undefined ? undefined : names.known.get(baseName(from));
      if (part === undefined || by === undefined || !/^\w+$/.test(part)) return false;
      // Without an output it only looks whether the text is sound.
      const output = optionValue(args, "-o");
      if (output === undefined) continue;
      const stem = baseName(by).replace(/\.ptx$/, "");
      const ours = recorded ? baseName(keptName(names, output)) : `${stem}.${part}.cubin`;
      if (!name(output, ours)) return false;
    }
  }
  return true;
}

function readCommand(
  program: string,
  args: readonly string[],
  names: Names,
  source: string,
): NvccNode | undefined {
  switch (baseName(program)) {
    case "cudafe++":
      return readDeviceTool("cudafe", program, args, names);
    case "cicc":
      return readDeviceTool("cicc", program, args, names);
    case "ptxas":
      return readDeviceTool("ptxas", program, args, names);
    case "fatbinary":
      return readDeviceTool("fatbin", program, args, names);
    default:
      return readHostCommand(program, args, names, source);
  }
}

function readHostCommand(
  program: string,
  given: readonly string[],
  names: Names,
  source: string,
): NvccNode | undefined {
  const phases = given.filter((word) => word === "-E" || word === "-c");
  // Options that write files nobody would bring back.
  if (given.some((word) => /^-(?:M|Wp,|save-temps|f?dump)/.test(word))) return undefined;
  const text = given.at(-3);
  const output = given.at(-1);
  if (phases.length !== 1 || given.at(-2) !== "-o" || !text || !output) return undefined;
  const compiles = phases[0] === "-c";
  if (!compiles && !names.known.has(baseName(output))) {
    // A plain C++ source, preprocessed only for its dependency file.
    names.known.set(baseName(output), `${names.folder}/source.ii`);
  }
  const args = rename(given, names);
  const ours = args?.at(-3);
  const made = args?.at(-1);
  if (args === undefined || ours === undefined || made === undefined) return undefined;
  const intermediate = ours !== text;
  if ((!intermediate && text !== source) || (!compiles && made === output)) return undefined;
  const part = compiles ? "host" : baseName(made).replace(/\.ii$/, "");
  return {
    tool: compiles ? "host-compile" : "host-preprocess",
    program,
    args,
    inputs: intermediate ? [ours] : [],
    outputs: compiles ? [] : [made],
    part,
  };
}

/** Options of the device tools that name a file, and how. */
const fileOptions: Readonly<Record<string, "in" | "out" | "unused" | "name">> = {
  "--gen_c_file_name": "out",
  "--gen_device_file_name": "unused",
  "--stub_file_name": "out",
  "--module_id_file_name": "in",
  "--include_file_name": "name",
  "-o": "out",
};
/** Their values are texts, which nobody opens. */
const textOptions: ReadonlySet<string> = new Set([
  "--orig_src_file_name",
  "--orig_src_path_name",
  "--frandom-seed",
  "-arch",
]);
const textPrefixes = /^--(?:ident|cmdline|cicc-cmdline)=/s;
/** What users may pass on to these tools: nothing that could be, read or write a file. */
const suspect =
  /[/\\]|\.[A-Za-z]\w*$|^-optf|options|file|path|dir|input|output|dump|trace|report|keep|plugin|bitcode|library|nvvmir/i;

function readDeviceTool(
  tool: NvccTool,
  program: string,
  given: readonly string[],
  names: Names,
): NvccNode | undefined {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const args: string[] = [];
  let part = "host";
  for (let i = 0; i < given.length; i++) {
    const word = given[i] ?? "";
    const role = fileOptions[word];
    if (role !== undefined || textOptions.has(word)) {
      const value = given[++i];
      if (value === undefined) return undefined;
      if (word === "-arch") part = value;
      if (role === undefined) {
        args.push(word, value);
        continue;
      }
      const named = fileOf(tool, word, value, names, part);
      if (named === undefined) return undefined;
      args.push(word, named.word);
      if (named.role === "in") inputs.push(named.word);
      if (named.role === "out") outputs.push(named.word);
      continue;
    }
    const image = /^(--image3=kind=\w+,sm=\w+,file=)(.+)$/s.exec(word);
    const embedded = /^(--embedded-fatbin=)(.+)$/s.exec(word);
    const [, prefix = "", value = word] = image ?? embedded ?? [];
    const ours = names.known.get(baseName(value));
    if (ours !== undefined && temporary.test(value)) {
      args.push(prefix + ours);
      (embedded === null ? inputs : outputs).push(ours);
    } else if (textPrefixes.test(word)) args.push(word);
    else if (prefix === "" && isHarmless(word)) args.push(word);
    else return undefined;
    if (tool === "ptxas" && word.startsWith("-arch=")) part = word.slice("-arch=".length);
  }
  return { tool, program, args, inputs, outputs, part };
}

/** Of what looks suspect, one is nvcc's own; bare numbers are values of limits. */
function isHarmless(word: string): boolean {
  if (word === "--gen_module_id_file" || /^\d+$/.test(word)) return true;
  return word.startsWith("-") && !suspect.test(word);
}

function fileOf(
  tool: NvccTool,
  option: string,
  value: string,
  names: Names,
  part: string,
): { readonly word: string; readonly role: "in" | "out" | "unused" | "name" } | undefined {
  const role = fileOptions[option] ?? "name";
  if (option === "--stub_file_name") {
    // The front end only mentions it; the device compiler writes it.
    if (tool === "cudafe") return { word: baseName(keptName(names, value)), role: "name" };
    return { word: `${names.folder}/${part}.stub.c`, role };
  }
  const ours = names.known.get(baseName(value));
  if (ours === undefined || !temporary.test(value)) return undefined;
  if (role === "name") return { word: baseName(ours), role };
  if (option === "--module_id_file_name")
    return { word: ours, role: tool === "cudafe" ? "out" : "in" };
  // What the device compiler leaves for nobody.
  if (option === "--gen_c_file_name" && tool === "cicc") return { word: ours, role: "unused" };
  return { word: ours, role };
}

/** Undefined when a word mentions an intermediate file that nobody named. */
function rename(args: readonly string[], names: Names): string[] | undefined {
  const renamed = args.map((word) =>
    temporary.test(word) ? (names.known.get(baseName(word)) ?? word) : word,
  );
  return renamed.some((word, i) => word === args[i] && temporaryAnywhere.test(word))
    ? undefined
    : renamed;
}

function keptName({ folder }: Names, path: string): string {
  const [, counter = "", rest = ""] = temporary.exec(path) ?? [];
  return `${folder}/tmpxft_00000001_00000000-${counter}_${rest}`;
}

/** Whether every intermediate file comes from an earlier step. */
function isClosed(nodes: readonly NvccNode[], copies: ReadonlyMap<string, string>): boolean {
  const made = new Set<string>();
  for (const { inputs, outputs } of nodes) {
    if (!inputs.every((path) => made.has(path))) return false;
    for (const path of outputs) {
      if (made.has(path)) return false;
      made.add(path);
    }
  }
  return [...copies.values()].every((path) => made.has(path));
}

function optionValue(args: readonly string[], option: string): string | undefined {
  const at = args.indexOf(option);
  return at < 0 ? undefined : args[at + 1];
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
