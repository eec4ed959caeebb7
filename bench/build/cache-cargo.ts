/**
 * `cargo build` after `cargo clean`, with every unit known already: against the same build without
 * any cache, against sccache, and against bringing back target/ by a copy, which is the least that
 * any cache of a continuous-integration system does.
 *
 * The workspace uses real crates where Debian's packages of them are installed (/usr/share/cargo/
 * registry), generated ones where not. Without incremental compilation, and for release.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createWorld, type World } from "../../chaos-tests/live/nodes.ts";
import {
  atMost,
  type Bench,
  type BenchOptions,
  medianOf,
  type Result,
  type Row,
  rowOf,
} from "../bench.ts";
import { program, timed } from "../command.ts";
import {
  findProgram,
  type QuietNode,
  type Sample,
  type Sccache,
  sampled,
  settled,
  startQuietNode,
  startSccache,
} from "./cache-tools.ts";

const runsDefault = 5;
const jobs = 2;
const plainMax = 0.2;
const restoreMax = 1.15;
const generatedCrates = 40;
const debianRegistry = "/usr/share/cargo/registry";
const debianCrates: Readonly<Record<string, string>> = {
  serde: '{ version = "1", features = ["derive"] }',
  regex: '"1"',
  rayon: '"1"',
  rand: '"0.8"',
  anyhow: '"1"',
  thiserror: '"1"',
  indexmap: '"1"',
  env_logger: '"0.9"',
  log: '"0.4"',
  flate2: '"1"',
};

interface Profile {
  readonly what: string;
  readonly flags: readonly string[];
}

const profiles: readonly Profile[] = [
  { what: "debug", flags: [] },
  { what: "release", flags: ["--release"] },
];

interface Case {
  readonly what: "plain" | "sccache" | "mesh" | "restored";
  readonly build: () => Promise<Sample>;
  readonly samples: Sample[];
}

export const cacheCargo: Bench = {
  name: "cargo",
  about:
    "cargo build after cargo clean with every unit known, against sccache and a copied target/",
  async run(options) {
    if (findProgram("cargo") === undefined)
      return { rows: [], checks: [], notes: ["cargo is not installed"] };
    const world = await createWorld();
    const sccache = await startSccache(world.folder, options.signal);
    const node = await startQuietNode(world, "running", jobs, undefined);
    try {
      const { dir, name } = await makeWorkspace(world, options.signal);
      const results: Result[] = [];
      for (const profile of profiles) {
        const cases = casesOf(world, node, sccache, dir, profile, options.signal);
        await measure(profile, cases, dir, world, options);
        results.push(resultOf(profile, cases));
      }
      return {
        rows: results.flatMap(({ rows }) => rows),
        checks: results.flatMap(({ checks }) => checks),
        notes: [
          name,
          "CPU time is that of all processes, servers included",
          ...(sccache === undefined ? ["sccache is not installed"] : []),
        ],
      };
    } finally {
      await node.stop();
      await sccache?.stop();
      await world.close();
    }
  },
};

function casesOf(
  world: World,
  node: QuietNode,
  sccache: Sccache | undefined,
  dir: string,
  { flags }: Profile,
  signal: AbortSignal,
): readonly Case[] {
  const cargo = ["cargo", "build", "--offline", ...flags];
  const own = { CARGO_INCREMENTAL: "0", CARGO_BUILD_JOBS: `${jobs}`, RUSTC_WRAPPER: "" };
  const cases: Case[] = [
    {
      what: "plain",
      samples: [],
      build: () => sampled(cargo, { cwd: dir, env: own }, [], signal),
    },
  ];
  if (sccache !== undefined) {
    const env = { ...own, ...sccache.env, RUSTC_WRAPPER: "sccache" };
    const build = () => sampled(cargo, { cwd: dir, env }, [sccache.pid], signal);
    cases.push({ what: "sccache", samples: [], build });
  }
  const env = { ...own, MESH_DIR: node.dataDir };
  const mesh = [process.execPath, program, "build", "--", "--offline", ...flags];
  cases.push({
    what: "mesh",
    samples: [],
    build: () => sampled(mesh, { cwd: dir, env }, [node.pid], signal),
  });
  const restore = `cp -a "$SAVED" target && exec ${cargo.join(" ")}`;
  const restoreEnv = { ...own, SAVED: savedIn(world) };
  cases.push({
    what: "restored",
    samples: [],
    build: () => sampled(["sh", "-c", restore], { cwd: dir, env: restoreEnv }, [], signal),
  });
  return cases;
}

function savedIn({ folder }: World): string {
  return join(folder, "saved-target");
}

async function measure(
  { what: profile }: Profile,
  cases: readonly Case[],
  dir: string,
  world: World,
  { runs = runsDefault, say, signal }: BenchOptions,
): Promise<void> {
  const target = join(dir, "target");
  const clean = () => rmSync(target, { recursive: true, force: true });
  // Once to fill them; once more because what has just been written is trusted by none of them.
  for (const filling of [true, false]) {
    for (const { what, build } of cases) {
      if (what === "restored" || (what === "plain" && !filling)) continue;
      clean();
      const { wallMs } = await build();
      if (filling) say(`${profile}: ${what}, first: ${Math.round(wallMs)} ms`);
      if (what !== "plain") continue;
      rmSync(savedIn(world), { recursive: true, force: true });
      await timed(["cp", "-a", target, savedIn(world)], { cwd: dir }, signal);
    }
    await settled();
  }
  for (let round = 0; round < runs; round += 1) {
    for (let at = 0; at < cases.length; at += 1) {
      const one = cases[(at + round) % cases.length];
      clean();
      const sample = await one?.build();
      if (sample !== undefined) one?.samples.push(sample);
    }
    const medians = cases.map(({ what, samples }) => {
      const ms = medianOf(samples.map(({ wallMs }) => wallMs));
      return `${what} ${Math.round(ms)} ms`;
    });
    say(`${profile}, round ${round + 1} of ${runs}: ${medians.join(", ")}`);
  }
}

function resultOf(
  { what: profile }: Profile,
  cases: readonly Case[],
): Pick<Result, "rows" | "checks" | "notes"> {
  const samplesOf = (what: Case["what"], unit: keyof Sample): readonly number[] =>
    (cases.find((one) => one.what === what)?.samples ?? []).map((sample) => sample[unit]);
  const plain = rowOf(`${profile}: plain`, "ms", samplesOf("plain", "wallMs"));
  const plainCpu = rowOf(`${profile}: plain, CPU`, "ms", samplesOf("plain", "cpuMs"));
  const rows: Row[] = [plain, plainCpu];
  for (const { what } of cases) {
    if (what === "plain") continue;
    const row = rowOf(`${profile}: ${what}`, "ms", samplesOf(what, "wallMs"), plain);
    const cpu = rowOf(`${profile}: ${what}, CPU`, "ms", samplesOf(what, "cpuMs"), plainCpu);
    rows.push({ ...row, against: "plain" }, { ...cpu, against: "plain CPU" });
  }
  const mesh = medianOf(samplesOf("mesh", "wallMs"));
  const restored = medianOf(samplesOf("restored", "wallMs"));
  return {
    rows,
    checks: [
      atMost(`${profile}: mesh`, mesh / plain.median, plainMax, "× plain"),
      atMost(`${profile}: mesh`, mesh / restored, restoreMax, "× restored target/"),
    ],
    notes: [],
  };
}

interface Workspace {
  readonly dir: string;
  readonly name: string;
}

async function makeWorkspace({ folder }: World, signal: AbortSignal): Promise<Workspace> {
  const dir = join(folder, "workspace");
  const real = writeWorkspace(dir, debianRegistry, debianCrates, "regex::escape(text).len()");
  if (existsSync(debianRegistry) && (await resolves(real, signal)))
    return { dir: real, name: `a workspace of ${countOf(debianCrates)} Debian crates and theirs` };
  rmSync(dir, { recursive: true, force: true });
  const registry = join(folder, "registry");
  const crates = writeCrates(registry);
  const call = `part${generatedCrates - 1}::size(text)`;
  const made = writeWorkspace(dir, registry, crates, call);
  return { dir: made, name: `a workspace of ${generatedCrates} generated crates` };
}

function countOf(crates: Readonly<Record<string, string>>): number {
  return Object.keys(crates).length;
}

async function resolves(dir: string, signal: AbortSignal): Promise<boolean> {
  try {
    await timed(["cargo", "generate-lockfile", "--offline"], { cwd: dir }, signal);
    return true;
  } catch (error) {
    if (signal.aborted) throw error;
    return false;
  }
}

/** A library and a program on top of `crates`. */
function writeWorkspace(
  dir: string,
  registry: string,
  crates: Readonly<Record<string, string>>,
  call: string,
): string {
  const dependencies = Object.entries(crates).map(([name, wanted]) => `${name} = ${wanted}\n`);
  const manifest = (name: string, uses: string): string =>
    `[package]\nname = "${name}"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n${uses}`;
  put(dir, "Cargo.toml", '[workspace]\nmembers = ["core", "app"]\nresolver = "2"\n');
  put(
    dir,
    ".cargo/config.toml",
    `[source.crates-io]\nreplace-with = "here"\n[source.here]\ndirectory = "${registry}"\n`,
  );
  put(dir, "core/Cargo.toml", manifest("core-part", dependencies.join("")));
  put(dir, "core/src/lib.rs", `pub fn measured(text: &str) -> usize {\n    ${call}\n}\n`);
  put(dir, "app/Cargo.toml", manifest("app", 'core-part = { path = "../core" }\n'));
  put(dir, "app/src/main.rs", 'fn main() {\n    println!("{}", core_part::measured("a+b"));\n}\n');
  return dir;
}

/** Each uses the one before; the compiler has a little to do in each. */
function writeCrates(registry: string): Readonly<Record<string, string>> {
  for (let at = 0; at < generatedCrates; at += 1) {
    const name = `part${at}`;
    const below = at === 0 ? "" : `[dependencies]\npart${at - 1} = "1"\n`;
    put(
      registry,
      `${name}/Cargo.toml`,
      `[package]\nname = "${name}"\nversion = "1.0.0"\nedition = "2021"\n${below}`,
    );
    put(registry, `${name}/.cargo-checksum.json`, '{"files":{}}');
    const call = at === 0 ? "text.len()" : `part${at - 1}::size(text)`;
    put(
      registry,
      `${name}/src/lib.rs`,
      `use std::collections::{BTreeMap, HashMap};
pub fn size(text: &str) -> usize {
    let mut seen: HashMap<char, Vec<usize>> = HashMap::new();
    for (at, one) in text.chars().enumerate() { seen.entry(one).or_default().push(at); }
    let sorted: BTreeMap<_, _> = seen.iter().map(|(one, all)| (format!("{one:?}"), all.len())).collect();
    sorted.values().sum::<usize>() + ${call}
}
`,
    );
  }
  return { [`part${generatedCrates - 1}`]: '"1"' };
}

function put(folder: string, name: string, text: string): void {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
