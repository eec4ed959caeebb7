/** What `mesh doctor` finds out about this machine by itself, without a node. */
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { blake3Name } from "../base/digest.ts";
import { messageOf } from "../base/errors.ts";
import { probeSandbox } from "../exec/sandbox/probe.ts";
import { createDisk } from "../host/disk.ts";
import { createProcesses } from "../host/processes.ts";
import type { Check } from "../node/control-api.ts";
import { nodePaths } from "../node/paths.ts";

/** Every check but those in `known`, which the node has made itself. */
export async function machineChecks(
  dataDir: string,
  env: NodeJS.ProcessEnv,
  known: ReadonlySet<string>,
): Promise<readonly Check[]> {
  const checks: Check[] = [
    okay("node.js", `${process.versions.node} on ${process.platform}/${process.arch}`),
    blake3Check(),
    dataDirCheck(dataDir),
  ];
  const [compiler, compilers, tools, mdns] = await Promise.all([
    compilerCheck(env),
    listCheck("compilers", compilerNames, env, "nothing to intercept: install gcc, clang or rustc"),
    listCheck("build tools", toolNames, env, "install the one your project needs"),
    mdnsCheck(),
  ]);
  checks.push(compiler, compilers, tools);
  if (!known.has("store")) checks.push(storeCheck(dataDir));
  if (!known.has("sandbox")) checks.push(await sandboxCheck());
  if (process.platform === "linux") checks.push(namespaceCheck());
  checks.push(mdns);
  return checks;
}

const compilerNames = ["gcc", "g++", "clang", "clang++", "rustc", "nvcc"];
const toolNames = ["cargo", "cmake", "ninja", "make"];
const lowBytes = 2e9;
const emptyBytes = 100e6;

function okay(name: string, message: string): Check {
  return { name, ok: true, level: "ok", message };
}

function problem(name: string, level: "warn" | "fail", message: string, fix: string): Check {
  return { name, ok: false, level, message, fix };
}

function blake3Check(): Check {
  if (blake3Name === "native") return okay("blake3", "native");
  return problem(
    "blake3",
    "warn",
    "WebAssembly, seven times slower than the native one",
    "reinstall mesh-node with optional dependencies (npm install --include=optional)",
  );
}

/** The folder itself, or the nearest one above it that exists: it is made at the first start. */
function dataDirCheck(dataDir: string): Check {
  const choose = "choose another with --data-dir or MESH_DIR";
  let at = dataDir;
  while (statSync(at, { throwIfNoEntry: false }) === undefined && dirname(at) !== at) {
    at = dirname(at);
  }
  try {
    if (!statSync(at).isDirectory()) {
      return problem("data dir", "fail", `${at} is not a folder`, choose);
    }
    accessSync(at, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = statfsSync(at);
    const freeBytes = bavail * bsize;
    const message = `${dataDir}, ${(freeBytes / 1e9).toFixed(1)} GB free`;
    if (freeBytes < emptyBytes) {
      return problem("data dir", "fail", message, `make room, or ${choose}`);
    }
    if (freeBytes < lowBytes) {
      return problem("data dir", "warn", message, `make room, or join with a small --cache-size`);
    }
    return okay("data dir", message);
  } catch (error) {
    return problem("data dir", "fail", `${dataDir}: ${messageOf(error)}`, choose);
  }
}

/** Without a node, which alone knows how much is kept: whether anything was found damaged. */
function storeCheck(dataDir: string): Check {
  const { blobs, quarantine } = nodePaths(dataDir);
  try {
    if (!existsSync(blobs)) return okay("store", "nothing is kept yet");
    const damaged = existsSync(quarantine) ? readdirSync(quarantine).length : 0;
    if (damaged === 0) return okay("store", "`mesh cache stats` tells how much is kept");
    return problem(
      "store",
      "warn",
      `${damaged} damaged files are in ${quarantine}`,
      "check the disk and run `mesh cache verify`; the folder may be emptied",
    );
  } catch (error) {
    return problem("store", "fail", messageOf(error), "check the rights of the data directory");
  }
}

async function compilerCheck(env: NodeJS.ProcessEnv): Promise<Check> {
  for (const name of ["cc", "gcc", "clang"]) {
    const found = await versionOf(name, env);
    if (found !== undefined) return okay("cc", found);
  }
  return problem(
    "cc",
    "warn",
    "no C compiler to build the shim with: each compile starts Node, 50 ms more",
    "install gcc or clang (Debian: apt install gcc)",
  );
}

async function listCheck(
  name: string,
  programs: readonly string[],
  env: NodeJS.ProcessEnv,
  fix: string,
): Promise<Check> {
  const versions = await Promise.all(programs.map((program) => versionOf(program, env)));
  const found = programs.flatMap((program, at) => {
    const version = /\d+\.\d+(\.\d+)?/.exec(versions[at] ?? "")?.[0];
    return versions[at] === undefined ? [] : [`${program} ${version ?? "?"}`];
  });
  return found.length > 0 ? okay(name, found.join(", ")) : problem(name, "warn", "none found", fix);
}

/** The line of `--version` that has a number in it; undefined when there is no such program. */
function versionOf(program: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(program, ["--version"], {
      env: { ...env, LC_ALL: "C" },
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 10_000,
      killSignal: "SIGKILL",
    });
    let text = "";
    child.stdout.on("data", (bytes: Buffer) => {
      if (text.length < 10_000) text += bytes.toString();
    });
    child.on("error", () => resolve(undefined));
    child.on("close", (code) => {
      const line = text.split("\n").find((one) => /release \d|\d+\.\d+/.test(one));
      resolve(code === 0 ? (line?.trim() ?? program) : undefined);
    });
  });
}

async function sandboxCheck(): Promise<Check> {
  const folder = mkdtempSync(join(tmpdir(), "mesh-doctor-"));
  const processes = createProcesses();
  try {
    const sandbox = await probeSandbox(
      { processes, disk: createDisk() },
      { wanted: undefined, tmpDir: folder },
      new AbortController().signal,
    );
    if (sandbox.tier !== "") {
      return okay("sandbox", [sandbox.tier, sandbox.why].filter((part) => part !== "").join("; "));
    }
    return problem(
      "sandbox",
      "warn",
      `none is usable, so this node takes no native tasks from others: ${sandbox.why}`,
      "install bubblewrap (Debian: apt install bubblewrap), or allow user namespaces",
    );
  } catch (error) {
    return problem("sandbox", "warn", messageOf(error), "report this");
  } finally {
    await processes.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function namespaceCheck(): Check {
  const name = "user namespaces";
  const settings: readonly (readonly [string, (value: string) => boolean])[] = [
    ["kernel/unprivileged_userns_clone", (value) => value === "0"],
    ["user/max_user_namespaces", (value) => value === "0"],
    ["kernel/apparmor_restrict_unprivileged_userns", (value) => value === "1"],
  ];
  for (const [path, isBad] of settings) {
    const value = readSetting(`/proc/sys/${path}`);
    if (value === undefined || !isBad(value)) continue;
    const setting = path.replaceAll("/", ".");
    const good = setting.includes("max") ? "15000" : setting.includes("apparmor") ? "0" : "1";
    return problem(
      name,
      "warn",
      `${setting} = ${value}: programs of ordinary users cannot build a sandbox`,
      `as root: sysctl ${setting}=${good}, or install bubblewrap set-uid`,
    );
  }
  return okay(name, "allowed");
}

function readSetting(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Joins the group that nodes on a LAN find each other in; hears nothing and says nothing. */
function mdnsCheck(): Promise<Check> {
  return new Promise((resolve) => {
    const socket = createSocket({ type: "udp4", reuseAddr: true });
    const end = (check: Check) => {
      socket.close();
      resolve(check);
    };
    const bad = (error: unknown) =>
      end(
        problem(
          "mdns",
          "warn",
          `nodes on this LAN cannot be found by themselves: ${messageOf(error)}`,
          "join with an invite or with --bootstrap ADDRESS",
        ),
      );
    socket.once("error", bad);
    socket.bind(5353, () => {
      try {
        socket.addMembership("224.0.0.251");
        end(okay("mdns", "multicast works"));
      } catch (error) {
        bad(error);
      }
    });
  });
}
