import { expect, test } from "vitest";
import { checkEnvironment, sourcesIn } from "./rustc-depinfo.ts";

const depInfo = `/t/libx.rlib: src/lib.rs /o\\ k/made\\ here.rs

src/lib.rs:
/o\\ k/made\\ here.rs:
a:b.rs:

# env-dep:SET=a\\nb\\\\n c\\r\\\\\u2028 # d=e:
# env-dep:UNSET
# env-dep:EMPTY=
`;
const env = { SET: "a\nb\\n c\r\\\u2028 # d=e:", EMPTY: "", OTHER: "x" };

test("sources are the rules without prerequisites", () => {
  expect(sourcesIn(depInfo, "/ws")).toEqual(["/ws/src/lib.rs", "/o k/made here.rs", "/ws/a:b.rs"]);
});

test("an environment in which every variable was read as it is here is accepted", () => {
  expect(() => checkEnvironment(depInfo, env)).not.toThrow();
});

test.each([
  ["has another value", { ...env, SET: "a" }],
  ["differs after a line separator", { ...env, SET: env.SET.replace("# d", "# e") }],
  ["is not set here", { EMPTY: "" }],
  ["is set here only", { ...env, UNSET: "" }],
  ["is empty there and not set here", { SET: env.SET }],
])("a variable that %s is refused", (_, here: Record<string, string>) => {
  expect(() => checkEnvironment(depInfo, here)).toThrow(/is set differently/);
});
