import { expect, test } from "vitest";
import { environmentOf, isSecret, secretsIn } from "./rustc-environment.ts";

const env = {
  CARGO_PKG_AUTHORS: "A. U. Thor",
  CARGO_PKG_NAME: "x",
  CARGO_REGISTRY_TOKEN: "t",
  CARGO_MAKEFLAGS: "--jobserver-auth=3,4",
  OUT_DIR: "/o",
  EDITOR: "vi",
  DATABASE: "postgres://me:pass@host/db",
  TMPDIR: "/elsewhere",
  GREETING: "hello",
};

test("a unit without macros sees what Cargo set and what its sources name", () => {
  expect(environmentOf(env, new Set(["GREETING"]), false)).toEqual({
    CARGO_PKG_AUTHORS: "A. U. Thor",
    CARGO_PKG_NAME: "x",
    OUT_DIR: "/o",
    GREETING: "hello",
  });
});

test("a unit with macros sees everything but secrets and what only makes sense here", () => {
  const sent = environmentOf(env, new Set(), true);
  expect(Object.keys(sent).sort()).toEqual([
    ...["CARGO_PKG_AUTHORS", "CARGO_PKG_NAME", "EDITOR", "GREETING", "OUT_DIR"],
  ]);
});

test("secrets are known by name or by a password in their value", () => {
  expect(secretsIn(env)).toEqual(["CARGO_REGISTRY_TOKEN", "DATABASE"]);
  expect(isSecret("PROXY", "http://proxy:3128/")).toBe(false);
});
