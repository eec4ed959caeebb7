import { expect, test } from "vitest";
import { canRun, type Offer, parseLabels, platformName, platformsOf } from "./capability.ts";

const offer: Offer = {
  slots: 4,
  sandbox: "bwrap",
  platform: "linux/x86_64",
  labels: { gpu: "nvidia", rack: "7" },
};

test("platforms are named as actions name them", () => {
  expect(platformName("linux", "x64")).toBe("linux/x86_64");
  expect(platformName("linux", "arm64")).toBe("linux/aarch64");
  expect(platformName("darwin", "riscv64")).toBe("darwin/riscv64");
});

test("a node runs what its own platform can, and WASM anywhere", () => {
  expect(canRun(offer, { platform: "linux/x86_64" }, "foreign")).toBe(true);
  expect(canRun(offer, { platform: "linux/aarch64" }, "foreign")).toBe(false);
  expect(canRun(offer, { platform: "wasm" }, "foreign")).toBe(true);
  expect(canRun(offer, {}, "foreign")).toBe(false);
});

test("without a sandbox a node runs no foreign native action, but its own", () => {
  const bare: Offer = { ...offer, sandbox: "" };
  expect(canRun(bare, { platform: "linux/x86_64" }, "foreign")).toBe(false);
  expect(canRun(bare, { platform: "linux/x86_64" }, "own")).toBe(true);
  expect(platformsOf(bare, "foreign")).toEqual(["wasm"]);
});

test("a node without slots runs nothing", () => {
  expect(platformsOf({ ...offer, slots: 0 }, "own")).toEqual([]);
});

test("every other wish must be one of the node's labels", () => {
  expect(canRun(offer, { platform: "wasm", gpu: "nvidia" }, "foreign")).toBe(true);
  expect(canRun(offer, { platform: "wasm", gpu: "amd" }, "foreign")).toBe(false);
  expect(canRun(offer, { platform: "wasm", toString: "x" }, "foreign")).toBe(false);
});

test("labels are read from the command line, and a bad one is quoted", () => {
  expect(parseLabels(["gpu=nvidia", "note=a=b", "rack=1", "rack=2"])).toEqual({
    gpu: "nvidia",
    note: "a=b",
    rack: "2",
  });
  for (const bad of ["gpu", "=x", "a b=c", "x=\u001b[0m", `k=${"v".repeat(300)}`]) {
    expect(() => parseLabels([bad])).toThrow(/not a label: ".*"; write it as gpu=nvidia/);
  }
  const many = Array.from({ length: 33 }, (_, index) => `k${index}=v`);
  expect(() => parseLabels(many)).toThrow("at most 32");
});
