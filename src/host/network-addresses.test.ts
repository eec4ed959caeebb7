import { expect, test } from "vitest";
import { nearestFirst, type OwnInterface, reachOf, worthTelling } from "./network-addresses.ts";

const own: readonly OwnInterface[] = [
  { name: "lo", cidr: "127.0.0.1/8" },
  { name: "eth0", cidr: "192.168.1.7/24" },
  { name: "eth0", cidr: "fd00:1::7/64" },
  { name: "docker0", cidr: "172.17.0.1/16" },
];

test.each([
  ["/ip4/192.168.1.9/tcp/1", "neighbour"],
  ["/ip6/fd00:1::9/tcp/1", "neighbour"],
  ["/ip4/192.168.2.9/tcp/1", "private"],
  ["/ip4/100.99.1.2/tcp/1", "private"],
  ["/ip6/fd00:2::9/tcp/1", "private"],
  ["/ip4/8.8.8.8/tcp/1", "public"],
  ["/ip6/2001:db8::1/tcp/1", "public"],
  ["/dns4/build.example.org/tcp/1", "public"],
  ["/ip4/172.17.0.5/tcp/1", "bridge"],
  ["/ip4/127.0.0.1/tcp/1", "loopback"],
  ["/ip6/::1/tcp/1", "loopback"],
  ["/dns4/localhost/tcp/1", "loopback"],
])("%s is reached as %s", (addr, reach) => {
  expect(reachOf(addr, own)).toBe(reach);
});

test("an address on the own network is dialled before any other", () => {
  const addrs = [
    "/ip4/127.0.0.1/tcp/1",
    "/ip4/172.17.0.1/tcp/1",
    "/ip4/8.8.8.8/tcp/1",
    "/ip4/10.8.0.3/tcp/1",
    "/ip4/192.168.1.9/tcp/1",
  ];
  expect(nearestFirst(addrs, own)).toEqual([...addrs].reverse());
});

test("others are not told of addresses that lead them to themselves", () => {
  const loopback = "/ip4/127.0.0.1/tcp/1";
  const bridge = "/ip4/172.17.0.1/tcp/1";
  const real = "/ip4/192.168.1.7/tcp/1";
  expect(worthTelling([loopback, bridge, real], own)).toEqual([real]);
  expect(worthTelling([loopback, bridge], own)).toEqual([bridge]);
  expect(worthTelling([loopback], own)).toEqual([loopback]);
});
