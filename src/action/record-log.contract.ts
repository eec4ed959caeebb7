/** What the log of records promises, on whatever disk it lies. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { concatBytes, utf8 } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import type { Clock, Disk } from "../host/host.ts";
import { writeU32 } from "../wire/frame.ts";
import { actionOfRecord, recordMinBytes } from "./record.ts";
import { openRecordLog, type RecordLog, type RecordLogDeps, readEntries } from "./record-log.ts";

export interface LogGround {
  readonly disk: Disk;
  readonly clock: Clock;
  /** An empty folder for this test alone. */
  readonly directory: string;
}

const forever = new AbortController().signal;

interface Opened {
  readonly log: RecordLog;
  /** What start found: records as "own 1" or "told 1", dropped ones as "dropped". */
  readonly found: readonly string[];
  readonly said: readonly string[];
}

/** The log asks no more of a record than that it names an action. */
function recordOf(number: number, sizeBytes: number = 300): Uint8Array {
  const record = new Uint8Array(Math.max(recordMinBytes, sizeBytes)).fill(number);
  record.set([10, 40], 64);
  record.set(Buffer.from(digestOf(utf8(`${number}`)).slice(0, 64), "hex"), 66);
  record.fill(0, 98, 106);
  return record;
}

const actionOf = (number: number): Digest => actionOfRecord(recordOf(number)) ?? digestOf(utf8(""));

/** `withGround` calls its argument with a disk and an empty folder, and cleans up behind it. */
export function recordLogContract(
  where: string,
  withGround: (run: (ground: LogGround) => Promise<void>) => Promise<void>,
): void {
  async function open(
    { disk, clock, directory }: LogGround,
    live: Partial<Pick<RecordLogDeps, "live" | "liveBytes">> = {},
  ): Promise<Opened> {
    const found: string[] = [];
    const said: string[] = [];
    const log = await openRecordLog(
      {
        disk,
        clock,
        emit: (event) => void (event.event === "log" && said.push(event.message)),
        live: () => [],
        liveBytes: () => 1e9,
        ...live,
      },
      join(directory, "results"),
      {
        onRecord: (record, told) => void found.push(`${told ? "told" : "own"} ${record[0]}`),
        onDropped: (action) => void found.push(`dropped ${action}`),
      },
      forever,
    );
    return { log, found, said };
  }
  const pathIn = ({ directory }: LogGround): string => join(directory, "results", "log");

  async function write(ground: LogGround, numbers: readonly number[]): Promise<void> {
    const { log } = await open(ground);
    for (const number of numbers) log.add(recordOf(number), number % 2 === 0);
    await log.flush();
  }

  async function change(ground: LogGround, edit: (bytes: Uint8Array) => Uint8Array): Promise<void> {
    const bytes = new Uint8Array(await ground.disk.read(pathIn(ground)));
    await ground.disk.writeAtomic(pathIn(ground), edit(bytes), { mode: 0o600, sync: false });
  }

  describe(`a log of records on ${where}`, () => {
    test("what was added is there at the next start, in its order", () =>
      withGround(async (ground) => {
        expect((await open(ground)).found).toEqual([]);
        await write(ground, [1, 2]);
        await write(ground, [3]);
        const { found, said } = await open(ground);
        expect(found).toEqual(["own 1", "told 2", "own 3"]);
        expect(said).toEqual([]);
      }));

    test("what was dropped is said to be", () =>
      withGround(async (ground) => {
        const { log } = await open(ground);
        log.add(recordOf(1), false);
        log.drop(actionOf(1));
        await log.flush();
        expect((await open(ground)).found).toEqual(["own 1", `dropped ${actionOf(1)}`]);
      }));

    test("a write that was cut short costs what it wrote and nothing before it, and is said", () =>
      withGround(async (ground) => {
        await write(ground, [1, 2, 3]);
        for (const missing of [1, 100, 311]) {
          await change(ground, (bytes) => bytes.slice(0, bytes.byteLength - missing));
          const { found, said } = await open(ground);
          expect(found).toEqual(["own 1", "told 2"]);
          expect(said).toHaveLength(1);
          expect(said[0]).toMatch(/^\d+ bytes of .* were cut short or damaged/);
          // The next start finds what is written behind the torn entry.
          await write(ground, [5]);
          expect((await open(ground)).found).toEqual(["own 1", "told 2", "own 5"]);
          await ground.disk.remove(pathIn(ground));
          await write(ground, [1, 2, 3]);
        }
      }));

    test("a flipped bit costs one entry, wherever it is", () =>
      withGround(async (ground) => {
        await write(ground, [1, 2, 3]);
        const whole = new Uint8Array(await ground.disk.read(pathIn(ground)));
        const entryBytes = whole.byteLength / 3;
        for (let at = 0; at < entryBytes; at += 1) {
          const flipped = whole.slice();
          const place = entryBytes + at;
          flipped[place] = (flipped[place] ?? 0) ^ (1 << (at % 8));
          await change(ground, () => flipped);
          expect((await open(ground)).found, `bit in byte ${at}`).toEqual(["own 1", "own 3"]);
        }
      }));

    test("an entry that claims more than there is holds nothing", () => {
      const payload = recordOf(1);
      let checksum = Math.imul(0x811c9dc5 ^ 0x6f, 0x01000193);
      for (const byte of payload) checksum = Math.imul(checksum ^ byte, 0x01000193);
      const heard: number[] = [];
      const listener = {
        onRecord: (record: Uint8Array) => void heard.push(record.byteLength),
        onDropped() {},
      };
      for (const claimed of [payload.byteLength, payload.byteLength + 1]) {
        const entry = concatBytes([
          Uint8Array.from([0xa5, 0x6d, 0x72, 0x6f]),
          new Uint8Array(8),
          payload,
        ]);
        writeU32(entry, 4, claimed);
        writeU32(entry, 8, (checksum ^ payload.byteLength) >>> 0);
        const isWhole = claimed === payload.byteLength;
        expect(readEntries(entry, listener)).toBe(isWhole ? 0 : entry.byteLength);
      }
      expect(heard).toEqual([payload.byteLength]);
    });

    test("a file of anything else holds nothing and stops nobody", () =>
      withGround(async (ground) => {
        await ground.disk.makeDirectory(join(ground.directory, "results"));
        for (const text of ["\u00a5mr\u00a5mr", "{}", "x".repeat(5000)]) {
          const bytes = concatBytes([Uint8Array.from([0xa5, 0x6d, 0x72]), utf8(text)]);
          await ground.disk.writeAtomic(pathIn(ground), bytes, { mode: 0o600, sync: false });
          const { found, said } = await open(ground);
          expect(found).toEqual([]);
          expect(said).toHaveLength(1);
        }
      }));

    test("a folder in its place is said once, and costs the memory of results only", () =>
      withGround(async (ground) => {
        await ground.disk.makeDirectory(pathIn(ground));
        const { log, said } = await open(ground);
        for (const number of [1, 2]) {
          log.add(recordOf(number), false);
          await log.flush();
        }
        expect(await log.compact()).toBe(0);
        expect(said).toHaveLength(2);
        expect(said[1]).toMatch(/not written to the disk/);
      }));

    test("writing it anew leaves what is live, and tells what that saved", () =>
      withGround(async (ground) => {
        await write(ground, [1, 2, 3, 4]);
        const live = [{ record: recordOf(3), told: true }];
        const { log } = await open(ground, { live: () => live, liveBytes: () => 300 });
        const beforeBytes = log.sizeBytes();
        // Waits to be written, but is not live any more.
        log.add(recordOf(9), false);
        const savedBytes = await log.compact();
        expect(savedBytes).toBe(beforeBytes - log.sizeBytes());
        expect(savedBytes).toBeGreaterThan(900);
        expect((await open(ground)).found).toEqual(["told 3"]);
        log.add(recordOf(5), false);
        await log.flush();
        expect((await open(ground)).found).toEqual(["told 3", "own 5"]);
      }));

    test("a file that is mostly waste is written anew by itself", () =>
      withGround(async (ground) => {
        const live = [{ record: recordOf(3), told: true }];
        const { log } = await open(ground, { live: () => live, liveBytes: () => 300 });
        for (let number = 0; number < 50; number += 1) log.add(recordOf(number, 100_000), false);
        await log.flush();
        expect(log.sizeBytes()).toBeLessThan(1000);
        expect((await open(ground)).found).toEqual(["told 3"]);
      }));

    test("what a crash left half-written is removed", () =>
      withGround(async (ground) => {
        await write(ground, [1]);
        const folder = join(ground.directory, "results");
        await ground.disk.writeAtomic(join(folder, ".mesh-tmp-7"), utf8("x"), {
          mode: 0o600,
          sync: false,
        });
        await open(ground);
        expect((await ground.disk.list(folder))?.map(({ name }) => name)).toEqual(["log"]);
      }));

    test("more than may wait is not written, and the rest is", () =>
      withGround(async (ground) => {
        const { log } = await open(ground);
        for (let number = 0; number < 100; number += 1) log.add(recordOf(number, 100_000), false);
        await log.flush();
        const { found } = await open(ground);
        expect(found.length).toBe(83);
      }));
  });
}
