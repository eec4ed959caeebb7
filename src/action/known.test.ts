import { expect, test } from "vitest";
import type { Digest } from "../base/digest.ts";
import { asPeerId } from "../base/ids.ts";
import { createSimSigning } from "../sim/signing.ts";
import { createKnown, type Known } from "./known.ts";
import { actionOf, recordBy, tag } from "./results.contract.ts";

const signer = asPeerId("sim-n1");
const keys = { signing: createSimSigning(asPeerId("sim-n0")), tag };

function open(): { readonly known: Known; readonly refused: (readonly [Digest, string])[] } {
  const refused: (readonly [Digest, string])[] = [];
  const bounds = { recordsMax: 10, bytesMax: 1e6 };
  const known = createKnown(keys, bounds, (...why) => void refused.push(why));
  return { known, refused };
}

test("a record that was put under another action's name is not that action's", () => {
  const { known, refused } = open();
  known.add(actionOf("a"), { record: recordBy(signer, "b"), told: false });
  expect(known.trusted(actionOf("a"))).toBeUndefined();
  expect(refused).toEqual([[actionOf("a"), "other-action"]]);
  expect(known.size).toBe(0);
  expect(known.bytes).toBe(0);
});

test("a record that was right once is looked at again when that is asked for", () => {
  const { known, refused } = open();
  const record = recordBy(signer, "a");
  known.add(actionOf("a"), { record, told: false });
  expect(known.trusted(actionOf("a"))).toBeDefined();
  record[9] = (record[9] ?? 0) ^ 1;
  expect(known.trusted(actionOf("a"))).toBeDefined();
  expect(known.trusted(actionOf("a"), "again")).toBeUndefined();
  expect(refused).toEqual([[actionOf("a"), "signature"]]);
});

test("what takes the place of a record does not count twice", () => {
  const { known } = open();
  for (const name of ["a", "a", "b"])
    known.add(actionOf(name), { record: recordBy(signer, name), told: name === "b" });
  expect(known.size).toBe(2);
  expect(known.bytes).toBe(2 * recordBy(signer, "a").byteLength);
  expect(known.isTold(actionOf("a"))).toBe(false);
  expect(known.isTold(actionOf("b"))).toBe(true);
  known.remove(actionOf("a"));
  known.remove(actionOf("a"));
  expect(known.actions()).toEqual([actionOf("b")]);
});
