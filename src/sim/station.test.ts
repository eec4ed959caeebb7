import { expect, test } from "vitest";
import type { Network, Stream } from "../host/host.ts";
import { createSimulation } from "./simulation.ts";

const never = (): AbortSignal => new AbortController().signal;
const protocol = "/test/1";

test("whoever hangs up ends its own side of a stream first, whoever opened it", async () => {
  const simulation = createSimulation(1);
  const [a, b] = ["a", "b"].map((name) => simulation.addHost(name).network) as [Network, Network];
  b.serve(protocol, () => {});
  const accepted = Promise.withResolvers<Stream>();
  a.serve(protocol, (_, stream) => accepted.resolve(stream));
  await simulation.finish(a.connect("sim/b", never()), 1000);
  const opened = simulation.finish(b.open(a.self, protocol, never()), 1000);
  const [own, other] = await Promise.all([opened, accepted.promise]);
  await simulation.finish(b.disconnect(a.self), simulation.nowMs() + 1000);
  expect((await own.ended).reason).toBe("disconnected");
  await simulation.run(simulation.nowMs() + 10);
  expect((await other.ended).reason).toBe("the other side disconnected");
});
