/**
 * Invariants of bytes: what lies on the simulated disks, looked at from outside and without faults.
 *
 * It knows which bytes a task's inputs determine, and what each file under a blob's final name must
 * hold. It knows nothing about leases.
 */
import { digestOf } from "../../src/base/digest.ts";
import type { FileNode, FileTreeNode } from "../../src/sim/files.ts";
import type { SimMesh, SimNode } from "./mesh.ts";
import type { Violations } from "./violations.ts";
import { isSettled, type Job } from "./workload.ts";

export interface FileChecker {
  /** The owner of this job starts it, here or there. */
  starting(job: Job): void;
  /** No file under its final name is partial or wrong. Cheap for files that were seen before. */
  whole(jobs: readonly Job[]): void;
  /** What is wrong now was made so by a fault that nobody could have prevented. */
  forgive(): void;
  /** What is done is there, and what is remembered is true. */
  rest(jobs: readonly Job[]): void;
}

const blobsDir = "/data/blobs";

export function createFileChecker(mesh: SimMesh, { say }: Violations): FileChecker {
  const { simulation } = mesh;
  /** Contents that were seen: whether they are right. Contents are replaced, never changed. */
  const seen = new WeakMap<Uint8Array, boolean>();
  const forgiven = new WeakSet<Uint8Array>();
  /** Contents of outputs and what they were found equal to. */
  const equal = new WeakMap<Uint8Array, Uint8Array>();

  mesh.onCommand((name, places) => {
    const missing = places.findIndex((path) => path === undefined || !fileAt(name, path));
    if (missing >= 0)
      say(
        "dependencies",
        mesh.find(name) ?? { name, life: 0 },
        `a tool starts without ${missing === 0 ? "itself" : `its ${missing}th input`}`,
      );
  });

  function fileAt(name: string, path: string): FileNode | undefined {
    const node = simulation.disk(name).files.find(path, true);
    return node?.kind === "file" ? node : undefined;
  }

  function isRight({ bytes }: FileNode, hashHex: string): boolean {
    let right = seen.get(bytes);
    if (right === undefined) {
      right = digestOf(bytes).startsWith(hashHex);
      seen.set(bytes, right);
    }
    return right || forgiven.has(bytes);
  }

  function wrongBlobs(name: string): readonly FileNode[] {
    const found: FileNode[] = [];
    const visit = (node: FileTreeNode | undefined, ownName: string): void => {
      if (node?.kind === "file" && !isRight(node, ownName)) found.push(node);
      if (node?.kind === "directory")
        for (const [entry, child] of node.entries) visit(child, entry);
    };
    visit(simulation.disk(name).files.find(blobsDir, true), "");
    return found;
  }

  function isInPlace({ node, outputPath, expected }: Job): boolean {
    const bytes = fileAt(node.name, outputPath)?.bytes;
    if (bytes === undefined) return false;
    if (equal.get(bytes) === expected) return true;
    if (Buffer.compare(bytes, expected) !== 0) return false;
    equal.set(bytes, expected);
    return true;
  }

  function isPartial(job: Job): boolean {
    const file = fileAt(job.node.name, job.outputPath);
    return file !== undefined && !forgiven.has(file.bytes) && !isInPlace(job);
  }

  /** Also what nobody has asked for again is byte for byte what the action gives. */
  function checkResult(node: SimNode, { action, expectedDigest, label }: Job): void {
    const known = node.results.find(action);
    const [output, ...more] = known?.outcome.outputs ?? [];
    if (known === undefined) return;
    if (output?.digest !== expectedDigest || more.length > 0)
      say("cache poisoning", node, `it knows a wrong one of ${label}, signed by ${known.signer}`);
  }

  return {
    starting(job) {
      for (const input of job.order.inputs ?? [])
        if (!isSettled(input) || !isInPlace(input))
          say("dependencies", job.node, `${job.label} starts before ${input.label} is in place`);
    },
    whole(jobs) {
      for (const name of mesh.names) {
        const node = mesh.find(name) ?? { name, life: 0 };
        const [wrong] = wrongBlobs(name);
        if (wrong !== undefined)
          say("no partial writes", node, `a blob of ${wrong.bytes.byteLength} bytes is not whole`);
      }
      for (const job of jobs)
        if (mesh.find(job.node.name) === job.node && isPartial(job))
          say("no partial writes", job.node, `${job.outputPath} is neither absent nor whole`);
    },
    forgive() {
      for (const name of mesh.names) {
        for (const { bytes } of wrongBlobs(name)) forgiven.add(bytes);
        const work = simulation.disk(name).files.find("/work", true);
        if (mesh.find(name) !== undefined || work?.kind !== "directory") continue;
        // A dead host: its files are nobody's answer any more, and may have been torn.
        for (const file of work.entries.values())
          if (file.kind === "file") forgiven.add(file.bytes);
      }
    },
    rest(jobs) {
      const alive = new Set(mesh.nodes());
      for (const job of jobs) {
        const isDone = job.outcome !== undefined && job.outcome.exitCode === 0;
        if (alive.has(job.node) && isDone && !isInPlace(job))
          say("no phantom success", job.node, `${job.label} is done, and ${job.outputPath} is not`);
      }
      const actions = new Map(jobs.map((job) => [job.action, job]));
      for (const node of alive) for (const job of actions.values()) checkResult(node, job);
    },
  };
}
