import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
// By this name, so that the same tests run on JSR's @std/net, whose API ours has: see the job "std" of CI.
import { getAvailablePort, getNetworkAddress } from "@std/net";

Deno.test("net: a port that can be listened on", () => {
  const port = getAvailablePort();
  assert.ok(Number.isInteger(port) && port > 0 && port < 65536, `${port}`);
  using listener = Deno.listen({ port });
  assert.equal(listener.addr.port, port);
});

Deno.test("net: the preferred port where it is free, else another", () => {
  const free = getAvailablePort();
  assert.equal(getAvailablePort({ preferredPort: free }), free);
  using taken = Deno.listen({ port: 0 });
  const { port } = taken.addr;
  assert.notEqual(getAvailablePort({ preferredPort: port }), port);
  assert.ok(getAvailablePort({ preferredPort: 0 }) > 0);
});

Deno.test("net: the machine's own address, where it has one", () => {
  const address = getNetworkAddress();
  const addresses = Deno.networkInterfaces().map((found) => found.address);
  // A machine without a network has none.
  if (address !== undefined) {
    assert.ok(isIPv4(address), address);
    assert.ok(!address.startsWith("127."), address);
    assert.ok(addresses.includes(address), address);
  }
  assert.equal(getNetworkAddress("IPv4"), address);
  const address6 = getNetworkAddress("IPv6");
  if (address6 !== undefined) {
    assert.ok(isIPv6(address6) && address6 !== "::1", address6);
    assert.ok(addresses.includes(address6), address6);
  }
});
