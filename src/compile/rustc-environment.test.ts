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

const nobody = { named: new Set<string>(), learned: new Set<string>(), links: false };

test("a unit sees what Cargo says about packages, and what its sources and macros name", () => {
  const named = new Set(["GREETING", "TMPDIR", "CARGO_REGISTRY_TOKEN"]);
  expect(environmentOf(env, { ...nobody, named })).toEqual({
    CARGO_PKG_AUTHORS: "A. U. Thor",
    CARGO_PKG_NAME: "x",
    OUT_DIR: "/o",
    GREETING: "hello",
  });
});

test("what it was seen to ask for is part of the action, whatever it is, but for secrets", () => {
  const learned = new Set(["TMPDIR", "EDITOR", "DATABASE"]);
  const sent = environmentOf(env, { ...nobody, learned });
  expect(sent).toMatchObject({ TMPDIR: "/elsewhere", EDITOR: "vi" });
  expect(sent.DATABASE).toBeUndefined();
});

test("only what links sees what linkers read", () => {
  const here = { LIBRARY_PATH: "/l", LANG: "de", RUSTC_WRAPPER: "/w", RUST_MIN_STACK: "1" };
  expect(environmentOf(here, nobody)).toEqual({ RUST_MIN_STACK: "1" });
  expect(environmentOf(here, { ...nobody, links: true })).toEqual({
    ...{ LIBRARY_PATH: "/l", LANG: "de", RUST_MIN_STACK: "1" },
  });
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
