/**
 * The command line: every command, its flags and its help.
 *
 * Commands are loaded when they are called: `mesh build` must not wait for libp2p to load.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { isatty } from "node:tty";
import { Command, CommanderError, Option } from "commander";
import { MeshError } from "../base/errors.ts";
import { strategies } from "../work/strategy.ts";
import {
  dataDirOf,
  oneOf,
  parseAddr,
  parseCount,
  parseDurationMs,
  parseLabel,
  parseSizeBytes,
} from "./args.ts";
import type { BuildFlags } from "./build-command.ts";
import { complaint, exitCodeFor, exitUsage, oneLine } from "./exit.ts";
import * as text from "./help.ts";
import { createTerminal, flush, type Terminal } from "./terminal.ts";

/** Runs one command line and ends the process with its exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  const terminal = createTerminal(process.stdout, process.stderr, process.env);
  const exitCode = await runProgram(argv, terminal);
  await flush(process.stdout, process.stderr);
  process.exit(exitCode);
}

const slotsMax = 1024;
const jobsMax = 10_000;
const yearMs = 365 * 86_400_000;
const drainMaxMs = 3_600_000;

interface Place {
  readonly terminal: Terminal;
  readonly env: NodeJS.ProcessEnv;
  /** What stood behind the first `--`. */
  readonly native: readonly string[];
  readonly hasNative: boolean;
  exit(code: number): void;
}

async function runProgram(argv: readonly string[], terminal: Terminal): Promise<number> {
  // Cut before parsing: commander would take the first native argument for the folder.
  const cut = argv.indexOf("--");
  let exitCode = 0;
  const place: Place = {
    terminal,
    env: process.env,
    native: cut < 0 ? [] : argv.slice(cut + 1),
    hasNative: cut >= 0,
    exit: (code) => {
      exitCode = code;
    },
  };
  const program = describe(place);
  try {
    await program.parseAsync(cut < 0 ? argv : argv.slice(0, cut), { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return usage(error, argv, program, terminal);
    terminal.err(`${complaint(error)}\n`);
    return exitCodeFor(error);
  }
}

/** One line: what is wrong, what was perhaps meant, where to read on. */
function usage(
  error: CommanderError,
  argv: readonly string[],
  program: Command,
  terminal: Terminal,
): number {
  if (error.code === "commander.helpDisplayed" || error.code === "commander.version") return 0;
  const command = program.commands.find((one) => one.name() === argv[0]);
  const path = [program.name(), ...(command === undefined ? [] : [command.name()])].join(" ");
  // `mesh` alone: the help itself is on stderr already.
  if (error.code !== "commander.help") {
    const what = oneLine(error.message.replace(/^error: /, "")).replace(/\.$/, "");
    terminal.err(`mesh: ${what}. See: ${path} --help\n`);
  }
  return exitUsage;
}

function describe(place: Place): Command {
  const { terminal } = place;
  const program = new Command(programName())
    .description(text.program)
    .version(ownVersion(), "-V, --version", "print the version")
    .option("--data-dir <folder>", text.dataDir)
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [command]", "print help for a command")
    .addHelpText("after", text.programExamples)
    .configureOutput({
      writeOut: (output) => terminal.out(output),
      writeErr: (output) => terminal.err(output),
      // Said in one line by `usage`.
      outputError: () => {},
    })
    .exitOverride()
    .enablePositionalOptions();
  addJoin(program, place);
  addBuilds(program, place);
  addRun(program, place);
  addQueries(program, place);
  addExplanations(program, place);
  for (const command of program.commands) {
    command.option("--data-dir <folder>", text.dataDir);
    if (["build", "exec"].includes(command.name())) continue;
    command.hook("preAction", () => {
      if (place.hasNative) throw new MeshError("usage", `${command.name()} takes nothing after --`);
    });
  }
  return program;
}

/** The data directory from the command's own flags, the program's, or the environment. */
function dataDir(command: Command, { env }: Place): string {
  const own: unknown = command.opts().dataDir;
  const outer: unknown = command.parent?.opts().dataDir;
  const flag = own ?? outer;
  return dataDirOf(typeof flag === "string" ? flag : undefined, env);
}

interface JoinFlags {
  readonly listen: readonly string[];
  readonly announce: readonly string[];
  readonly bootstrap: readonly string[];
  readonly label: readonly string[];
  readonly slots?: string;
  readonly name?: string;
  readonly cacheSize: string;
  readonly sandbox?: string;
  readonly lend: string;
  readonly strategy: string;
  readonly drain: string;
  readonly mdns: boolean;
  readonly json?: boolean;
  readonly embedded?: boolean;
}

function addJoin(program: Command, place: Place): void {
  const several = (value: string, before: readonly string[]) => [...before, value];
  program
    .command("join")
    .argument("[invite]", "from `mesh invite` on a machine that is in; none: this starts a mesh")
    .summary("lend this machine to the mesh and use the others")
    .description(text.join)
    .option("--listen <address>", "where others reach this node (several allowed)", several, [])
    .option("--announce <address>", "tell others this instead (several allowed)", several, [])
    .option("--bootstrap <address>", "a node to look for first (several allowed)", several, [])
    .option("--slots <n>", "tasks at once on this machine (default: one per core)")
    .option("--name <name>", "how others see this node (default: the host's name)")
    .option("--label <key=value>", "something others can read about it (several)", several, [])
    .option("--cache-size <size>", "room for files on this disk", "20GB")
    .option("--sandbox <tier>", "bwrap, unshare or none (default: the best that works)")
    .option("--lend <how>", "spare: fewer slots while you use the machine; always: all", "spare")
    .option("--strategy <name>", `whom to steal from: ${strategies.join(", ")}`, strategies[0])
    .option("--drain <time>", "how long others' tasks may run on when this node leaves", "5s")
    .option("--no-mdns", "do not look for nodes on the local network")
    .option("--json", "one JSON object a line; the first has event ready")
    .addOption(new Option("--embedded").hideHelp())
    .addHelpText("after", text.joinExamples)
    .action(async (invite: string | undefined, flags: JoinFlags, command: Command) => {
      const options = {
        dataDir: dataDir(command, place),
        invite,
        listen:
          flags.listen.length === 0
            ? undefined
            : flags.listen.map((addr) => parseAddr("--listen", addr)),
        announce:
          flags.announce.length === 0
            ? undefined
            : flags.announce.map((addr) => parseAddr("--announce", addr)),
        bootstrap: flags.bootstrap.map((addr) => parseAddr("--bootstrap", addr)),
        slots: flags.slots === undefined ? undefined : parseCount("--slots", flags.slots, slotsMax),
        name: flags.name,
        labels: Object.fromEntries(flags.label.map(parseLabel)),
        cacheSizeBytes: parseSizeBytes("--cache-size", flags.cacheSize),
        sandbox:
          flags.sandbox === undefined
            ? undefined
            : oneOf("--sandbox", flags.sandbox, ["bwrap", "unshare", "none"]),
        lend: oneOf("--lend", flags.lend, ["spare", "always"]),
        strategy: oneOf("--strategy", flags.strategy, strategies),
        drainMs:
          flags.embedded === true ? 0 : parseDurationMs("--drain", flags.drain, drainMaxMs, 0),
        mdns: flags.mdns,
        embedded: flags.embedded === true,
      };
      const { startJoin } = await import("./join-start.ts");
      place.exit(await startJoin(options, flags.json === true, place.terminal, place.env));
    });
}

interface NativeFlags {
  readonly jobs?: string;
  readonly steal: boolean;
  /** False with --no-cache; the two below likewise. */
  readonly cache: boolean;
  readonly cacheRead: boolean;
  readonly cacheWrite: boolean;
  readonly compare?: boolean;
  readonly summary?: string;
  readonly trace?: string;
}

function addBuilds(program: Command, place: Place): void {
  const withFlags = (command: Command): Command =>
    command
      .option("-j, --jobs <n>", "compiles at once (default: what the whole mesh can take)")
      .option("--no-steal", "keep every compile on this machine")
      .option("--no-cache", "neither use known results nor remember new ones")
      .option("--no-cache-read", "do every task anew; remember the results")
      .option("--no-cache-write", "use known results; remember no new ones")
      .option("--compare", "do what peers or the cache gave here once more, and report differences")
      .option("--summary <file>", "write the closing counts to this file, as JSON")
      .option("--trace <file>", "write who did what when to this file, for ui.perfetto.dev");
  const read = (flags: NativeFlags, command: Command): BuildFlags => ({
    dataDir: dataDir(command, place),
    jobs: flags.jobs === undefined ? undefined : parseCount("--jobs", flags.jobs, jobsMax),
    steal: flags.steal,
    cacheRead: flags.cache && flags.cacheRead,
    cacheWrite: flags.cache && flags.cacheWrite,
    compare: flags.compare === true,
    summary: flags.summary,
    trace: flags.trace,
  });
  const here = () => ({
    terminal: place.terminal,
    env: place.env,
    cwd: process.cwd(),
    // Not process.stdin, which loads and opens what nobody is going to read from.
    terminalSignals: isatty(0),
  });
  withFlags(program.command("build"))
    .argument("[dir]", "the project's folder", ".")
    .summary("build a Cargo, CMake, Ninja or Make project with the whole mesh")
    .usage("[options] [dir] [-- NATIVE ARGS]")
    .description(text.build)
    .addHelpText("after", text.buildExamples)
    .action(async (dir: string, flags: NativeFlags, command: Command) => {
      const { buildCommand } = await import("./build-command.ts");
      place.exit(await buildCommand(dir, place.native, read(flags, command), here()));
    });
  withFlags(program.command("exec"))
    .argument("[command...]", "any command; what it compiles is shared")
    .summary("run any command with its compilers handed to the mesh")
    .usage("[options] -- COMMAND [ARGS]")
    .description(text.exec)
    .passThroughOptions()
    .addHelpText("after", text.execExamples)
    .action(async (words: readonly string[], flags: NativeFlags, command: Command) => {
      const { execCommand } = await import("./build-command.ts");
      if (words.length > 0 && !place.hasNative) {
        place.exit(await execCommand(words, read(flags, command), here()));
      } else if (words.length > 0) {
        // `mesh exec env -- make`: the dashes belong to the command.
        const whole = [...words, "--", ...place.native];
        place.exit(await execCommand(whole, read(flags, command), here()));
      } else place.exit(await execCommand(place.native, read(flags, command), here()));
    });
}

function addRun(program: Command, place: Place): void {
  program
    .command("run")
    .argument("<job.json>", "names a WebAssembly module and its limits")
    .summary("split, execute and merge a WebAssembly job on the mesh")
    .description(text.run)
    .option("--input <file>", "what the job works on (default: stdin)")
    .option("--output <file>", "where the result goes (default: stdout)")
    .addHelpText("after", text.runExamples)
    .action(async (job: string, flags: { input?: string; output?: string }, command: Command) => {
      const { runCommand } = await import("./run.ts");
      const { input, output } = flags;
      const options = { dataDir: dataDir(command, place), input, output };
      place.exit(await runCommand(job, options, place.terminal));
    });
}

interface JsonFlag {
  readonly json?: boolean;
}

function addQueries(program: Command, place: Place): void {
  const { terminal } = place;
  program
    .command("invite")
    .summary("print what another machine needs to join")
    .description(text.invite)
    .option("--expires <time>", "how long the invite works, e.g. 30m, 24h, 7d", "24h")
    .option("--json", "as JSON")
    .action(async (flags: JsonFlag & { expires: string }, command: Command) => {
      const expiresMs = parseDurationMs("--expires", flags.expires, yearMs);
      const { inviteCommand } = await import("./calls.ts");
      const json = flags.json === true;
      const options = { dataDir: dataDir(command, place), expiresMs, json };
      place.exit(await inviteCommand(options, terminal));
    });
  program
    .command("status")
    .summary("what this machine's node is doing")
    .option("--json", "as JSON")
    .action(async (flags: JsonFlag, command: Command) => {
      const { statusCommand } = await import("./status.ts");
      place.exit(await statusCommand(dataDir(command, place), flags.json === true, terminal));
    });
  program
    .command("peers")
    .summary("the machines in the mesh, as seen from here")
    .option("--json", "as JSON")
    .action(async (flags: JsonFlag, command: Command) => {
      const { peersCommand } = await import("./status.ts");
      place.exit(await peersCommand(dataDir(command, place), flags.json === true, terminal));
    });
  program
    .command("doctor")
    .summary("check this machine and say what to do about each problem")
    .option("--json", "as JSON")
    .action(async (flags: JsonFlag, command: Command) => {
      const { doctorCommand } = await import("./doctor.ts");
      const where = dataDir(command, place);
      place.exit(await doctorCommand(where, flags.json === true, terminal, place.env));
    });
  program
    .command("leave")
    .summary("end this machine's node in order")
    .action(async (_flags: object, command: Command) => {
      const { leaveCommand } = await import("./calls.ts");
      place.exit(await leaveCommand(dataDir(command, place), terminal));
    });
}

function addExplanations(program: Command, place: Place): void {
  const { terminal } = place;
  program
    .command("why")
    .argument("<file|task>", "a source, an output, a crate, or a task")
    .summary("who ran a compile, why there, and why its result was not known")
    .description(text.why)
    .option("--json", "as JSON")
    .addHelpText("after", text.whyExamples)
    .action(async (query: string, flags: JsonFlag, command: Command) => {
      const { whyCommand } = await import("./why.ts");
      const json = flags.json === true;
      const options = { dataDir: dataDir(command, place), cwd: process.cwd(), json };
      place.exit(await whyCommand(query, options, terminal));
    });
  program
    .command("cache")
    .argument("<stats|verify|gc>", "what to do")
    .summary("what this machine keeps of earlier work")
    .description(text.cache)
    .option("--json", "as JSON")
    .action(async (what: string, flags: JsonFlag, command: Command) => {
      const call = oneOf("cache", what, ["stats", "verify", "gc"]);
      const { cacheCommand } = await import("./cache.ts");
      const options = { dataDir: dataDir(command, place), json: flags.json === true };
      place.exit(await cacheCommand(call, options, terminal));
    });
}

/** `mesh` and `mesh-node` are one program: help shows the name it was called by. */
function programName(): string {
  const name = basename(process.argv[1] ?? "");
  return name === "mesh-node" ? name : "mesh";
}

function ownVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  const value: unknown = JSON.parse(readFileSync(file, "utf8"));
  const known = typeof value === "object" && value !== null && "version" in value;
  return known ? String(value.version) : "unknown";
}
