// Addresses in their canonical form, as bits, and the networks that failures are counted for.

import assert from "node:assert/strict";
import { isIP, isIPv6 } from "node:net";
import fc from "fast-check";
import { addressBits, canonicalAddress, networkOf } from "./ip_address.ts";

const groups = fc.array(
  fc.oneof(fc.constant(0), fc.nat(0xffff)),
  { minLength: 8, maxLength: 8 },
).map((all) => all.map((group) => group.toString(16)));

const NO_ADDRESSES = [
  "",
  "localhost",
  "1.2.3",
  "1.2.3.04",
  "1.2.3.256",
  "1.2.3.4 ",
  "1.2.3.4%eth0",
  ":::",
  "1::2::3",
  "1:2:3:4:5:6:7:8:9",
  "12345::",
  "[::1]",
  "fe80::1%",
  "::1/128",
];

Deno.test("canonicalAddress: RFC 5952, without a zone, and IPv4-mapped as IPv4", () => {
  const cases: [string, string][] = [
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["0:0:0:0:0:0:0:1", "::1"],
    // RFC 5952, section 4: leading zeros, the longest run, the first of two, no :: for one group.
    ["2001:0DB8:0000:0000:0000:0000:0002:0001", "2001:db8::2:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["fe80::1%eth0", "fe80::1"],
    ["::ffff:1.2.3.4", "1.2.3.4"],
    ["::FFFF:0102:0304", "1.2.3.4"],
    ["0:0:0:0:0:ffff:0:0", "0.0.0.0"],
    ["::ffff:1.2.3.4%eth0", "1.2.3.4"],
    // Neither is IPv4-mapped.
    ["::1.2.3.4", "::102:304"],
    ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
  ];
  for (const [text, canonical] of cases) assert.equal(canonicalAddress(text), canonical, text);
});

Deno.test("canonicalAddress: what is no address", () => {
  for (const text of NO_ADDRESSES) assert.equal(canonicalAddress(text), null, text);
});

Deno.test({
  name: "canonicalAddress shows a peer as the runtime does, IPv4-mapped aside; needs IPv6",
  ignore: !Deno.networkInterfaces().some(({ address }) => address === "::1"),
  async fn() {
    using listener = Deno.listen({ hostname: "::", port: 0 });
    const { port } = listener.addr;
    for (const hostname of ["127.0.0.1", "::1"]) {
      using client = await Deno.connect({ hostname, port });
      using server = await listener.accept();
      assert.equal(canonicalAddress(client.remoteAddr.hostname), hostname);
      assert.equal(canonicalAddress(server.remoteAddr.hostname), hostname);
    }
  },
});

Deno.test("canonicalAddress is one form for every way to write an address", () => {
  fc.assert(fc.property(groups, (all) => {
    const canonical = canonicalAddress(all.join(":"));
    assert.ok(canonical !== null);
    assert.equal(canonicalAddress(canonical), canonical);
    const long = all.map((group) => group.padStart(4, "0").toUpperCase()).join(":");
    assert.equal(canonicalAddress(long), canonical);
    assert.equal(addressBits(canonical), BigInt(`0x${long.replaceAll(":", "")}`));
  }));
});

Deno.test("whatever text comes: an address has a canonical form, bits and a network, no other has", () => {
  const texts = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.constantFrom(..."0123456789abcdefABCDEF:.%/[]x") }),
    fc.array(fc.constantFrom("::", ":", "ffff", "0", "1.2.3.4", "%e", "12")).map((all) =>
      all.join("")
    ),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const canonical = canonicalAddress(text);
      assert.equal(canonical !== null, isIP(text) !== 0);
      assert.equal(addressBits(text) !== null, isIP(text) !== 0);
      if (canonical === null) assert.equal(networkOf(text), text);
      else assert.ok(isIPv6(text) ? isIP(canonical) !== 0 : canonical === text);
    }),
    { numRuns: 500 },
  );
});

Deno.test("addressBits", () => {
  const cases: [string, bigint | null][] = [
    ["10.0.0.1", 0xffff_0a00_0001n],
    ["::ffff:10.0.0.1", 0xffff_0a00_0001n],
    ["255.255.255.255", 0xffff_ffff_ffffn],
    ["::", 0n],
    ["::1", 1n],
    ["1::", 1n << 112n],
    ["fe80::1%eth0", 0xfe80n << 112n | 1n],
    ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", (1n << 128n) - 1n],
    ["no address", null],
  ];
  for (const [text, bits] of cases) assert.equal(addressBits(text), bits, text);
});

Deno.test("networkOf: IPv4 as it is, the /64 of IPv6", () => {
  const cases: [string, string][] = [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::ffff:c000:207", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:1:2::", "2001:db8:1:2::/64"],
    ["2001:db8::5", "2001:db8::/64"],
    ["2001:db8:0:1::5", "2001:db8:0:1::/64"],
    ["1:0:0:2:3:4:5:6", "1:0:0:2::/64"],
    ["0:0:0:1:2:3:4:5", "0:0:0:1::/64"],
    ["1:2:3:4:5:6:7::", "1:2:3:4::/64"],
    ["::1", "::/64"],
    ["fe80::1%eth0", "fe80::/64"],
    ["fe80::2%eth1", "fe80::/64"],
  ];
  for (const [address, network] of cases) assert.equal(networkOf(address), network, address);
  for (const text of NO_ADDRESSES) assert.equal(networkOf(text), text);
});

Deno.test("networkOf: the same for two addresses where their first 64 bits are", () => {
  fc.assert(fc.property(groups, groups, fc.nat(8), (a, b, shared) => {
    const mixed = [...a.slice(0, shared), ...b.slice(shared)];
    const [one, other] = [a, mixed].map((all) => all.join(":"));
    fc.pre([one, other].every((address) => canonicalAddress(address)?.includes(":")));
    const same = a.slice(0, 4).join(":") === mixed.slice(0, 4).join(":");
    assert.equal(networkOf(one) === networkOf(other), same);
    assert.match(networkOf(one), /^[0-9a-f:]+::\/64$|^::\/64$/);
  }));
});
