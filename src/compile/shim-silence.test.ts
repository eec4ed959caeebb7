import { createServer } from "node:net";
import { describe, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { createWorld, hasCc } from "./shim-world.contract.ts";

// Both take twice the silence that a shim bears, so all of them wait together.
describe.concurrent.each(["c", "node"] as const)("the %s shim", (kind) => {
  if (kind === "c" && !hasCc) return;

  test.concurrent("gives up a node that accepts connections and says nothing", async () => {
    const world = createWorld(kind);
    const sockets: { destroy(): unknown }[] = [];
    const silent = createServer((socket) => sockets.push(socket.on("error", () => {}).resume()));
    try {
      world.compiler("gcc", "echo alone");
      await new Promise<void>((resolve) => silent.listen(world.socketPath, resolve));
      expect(await world.run([world.shim, "gcc"])).toMatchObject({ code: 0, stdout: "alone\n" });
    } finally {
      for (const socket of sockets) socket.destroy();
      silent.close();
      await world.close();
    }
  });

  test.concurrent("waits for a node that is only busy", async () => {
    const world = createWorld(kind);
    try {
      world.compiler("gcc", "echo impatient");
      await world.serve(async (_, link) => {
        await new Promise((resolve) => setTimeout(resolve, 11_500));
        await link.exit(0, utf8("worth it\n"), new Uint8Array(0));
      });
      expect((await world.run([world.shim, "gcc"])).stdout).toBe("worth it\n");
    } finally {
      await world.close();
    }
  });
});
