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

test("secrets are known by name or by an account in their value", () => {
  expect(secretsIn(env)).toEqual(["CARGO_REGISTRY_TOKEN", "DATABASE"]);
  expect(isSecret("PROXY", "http://proxy:3128/")).toBe(false);
  expect(isSecret("PROXY", "http://me@proxy:3128/")).toBe(true);
  expect(isSecret("PROXY", "redis://:pass@host")).toBe(true);
  expect(isSecret("CARGO_PKG_REPOSITORY", "ssh://git@host/x")).toBe(false);
});

test.each([
  ...["GPG_PASSPHRASE", "DB_PASS", "SIGNING_KEY", "KEY", "KEY_ID", "APIKEY", "DB_PWD", "GH_PAT"],
  ...["PAT", "BASIC_AUTH", "AUTHORIZATION", "COOKIE_JAR", "SLACK_WEBHOOK", "XDG_SESSION_ID"],
])("%s is a secret", (name) => expect(isSecret(name, "x")).toBe(true));

test.each([
  ...["CARGO_PKG_AUTHORS", "GIT_AUTHOR_NAME", "AUTHORS", "KEYBOARD", "MONKEY", "PWD", "PATH"],
  ...["PATCH", "OUT_DIR", "CARGO_CFG_TARGET_OS", "RUSTC_VERSION"],
])("%s is no secret", (name) => expect(isSecret(name, "x")).toBe(false));
