/** Where `mesh run` puts its output, with a node that runs jobs by copying their input. */
import { spawn, spawnSync } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ControlServer, serveControl } from "../node/control-server.ts";
import { controlSocketPath } from "../node/paths.ts";

const main = join(import.meta.dirname, "main.ts");
const noFifo = spawnSync("mkfifo", ["--version"]).error !== undefined;
if (noFifo) console.warn("mkfifo is missing: its test is skipped");

let folder = "";
let server: ControlServer | undefined;
/** Where the node was asked to write. */
let outputs: string[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "mesh-run-test-"));
  outputs = [];
  mkdirSync(join(folder, "data"));
  writeFileSync(join(folder, "job.json"), '{"module":"m.wasm"}');
  writeFileSync(join(folder, "m.wasm"), "");
  writeFileSync(join(folder, "in"), "text");
  server = await serveControl(controlSocketPath(join(folder, "data")), async (request) => {
    const { input, output } = request as { input: string; output: string };
    outputs.push(output);
    writeFileSync(output, `<${readFileSync(input, "utf8")}>`);
    return { result: { id: "j1", chunks: 1, byPeer: { here: 1 } } };
  });
});

afterEach(async () => {
  await server?.close();
  rmSync(folder, { recursive: true });
});

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(output: string): Promise<Ended> {
  const { MESH_BUILD, MESH_SOCKET, ...clean } = process.env;
  const child = spawn(
    process.execPath,
    [main, "run", "job.json", "--input", "in", "--output", output],
    { cwd: folder, env: { ...clean, MESH_DIR: join(folder, "data") } },
  );
  child.stdin.end();
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (bytes: Buffer) => {
    stdout += bytes;
  });
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes;
  });
  return new Promise((resolve) => {
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}

test("an output file is the node's to write", async () => {
  expect(await run("out")).toMatchObject({ code: 0, stdout: "" });
  expect(outputs).toEqual([join(folder, "out")]);
  expect(readFileSync(join(folder, "out"), "utf8")).toBe("<text>");
});

test.skipIf(noFifo)("an output that is a named pipe is written to, and stays one", async () => {
  const fifo = join(folder, "fifo");
  expect(spawnSync("mkfifo", [fifo]).status).toBe(0);
  const reader = spawn("cat", [fifo]);
  try {
    let read = "";
    reader.stdout.on("data", (bytes: Buffer) => {
      read += bytes;
    });
    const ended = new Promise((resolve) => reader.on("close", resolve));
    expect(await run("fifo")).toMatchObject({ code: 0, stdout: "" });
    expect(outputs).not.toContain(fifo);
    expect(lstatSync(fifo).isFIFO()).toBe(true);
    await ended;
    expect(read).toBe("<text>");
  } finally {
    reader.kill("SIGKILL");
  }
});

test("an output that is a device is never given to the node to replace", async () => {
  expect(await run("/dev/null")).toMatchObject({ code: 0, stdout: "" });
  expect(outputs.map(dirname)).not.toContain("/dev");
  expect(lstatSync("/dev/null").isCharacterDevice()).toBe(true);
});

test("an output that is a symlink is written through it", async () => {
  writeFileSync(join(folder, "target"), "something longer that was there before");
  symlinkSync("target", join(folder, "link"));
  expect(await run("link")).toMatchObject({ code: 0 });
  expect(outputs).not.toContain(join(folder, "link"));
  expect(lstatSync(join(folder, "link")).isSymbolicLink()).toBe(true);
  expect(readFileSync(join(folder, "target"), "utf8")).toBe("<text>");
});

test("/dev/stdout is the standard output, whatever that is", async () => {
  expect(await run("/dev/stdout")).toMatchObject({ code: 0, stdout: "<text>" });
  expect(outputs.map(dirname)).not.toContain("/dev");
});

test("an output that is a folder is refused before the job runs", async () => {
  const { code, stderr } = await run("data");
  expect(stderr).toBe(`mesh: --output cannot be written: ${join(folder, "data")} is a folder\n`);
  expect(code).not.toBe(0);
  expect(outputs).toEqual([]);
});
