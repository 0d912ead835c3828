// Lists of addresses and networks: what is in them, in every form an address can have.

import assert from "node:assert/strict";
import { BlockList } from "node:net";
import fc from "fast-check";
import { AddressList } from "./address_list.ts";

function check(entries: string[], inside: string[], outside: string[]): void {
  const list = new AddressList(entries);
  for (const address of inside) assert.equal(list.has(address), true, `${entries} has ${address}`);
  for (const address of outside) assert.equal(list.has(address), false, `${entries}: ${address}`);
}

Deno.test("an empty list has nothing", () => {
  check([], [], ["127.0.0.1", "::1", "0.0.0.0", "::", ""]);
});

Deno.test("addresses, in every form", () => {
  check(
    ["10.0.0.1", "FD00:0:0::1"],
    [
      "10.0.0.1",
      "::ffff:10.0.0.1",
      "::FFFF:a00:1",
      "fd00::1",
      "fd00:0:0:0:0:0:0:1",
      "fd00::1%eth0",
    ],
    ["10.0.0.2", "::10.0.0.1", "fd00::2", "::ffff:10.0.0.2"],
  );
});

Deno.test("networks, to their first and last address", () => {
  check(
    ["10.0.0.0/8", "192.0.2.128/25", "198.51.100.7/32"],
    ["10.0.0.0", "10.255.255.255", "::ffff:10.0.0.1", "192.0.2.128", "192.0.2.255", "198.51.100.7"],
    [
      "9.255.255.255",
      "11.0.0.0",
      "192.0.2.127",
      "192.0.3.0",
      "198.51.100.6",
      "198.51.100.8",
      "a00::",
    ],
  );
  check(
    ["fd00::/8", "2001:db8:1:2::/64", "2001:db8::7/128"],
    ["fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8:1:2:ffff::1", "2001:db8::7"],
    ["fcff::", "fe00::", "2001:db8:1:3::", "2001:db8:1:1:ffff::", "2001:db8::8", "253.0.0.1"],
  );
});

Deno.test("bits behind the prefix do not count", () => {
  check(["10.1.2.3/8", "fd00::1/8"], ["10.0.0.0", "10.9.9.9", "fd12::"], ["11.1.2.3", "fe00::1"]);
});

Deno.test("/0 is everything of its version, and an IPv4-mapped address is IPv4", () => {
  const ipv4 = ["0.0.0.0", "8.8.8.8", "255.255.255.255", "::ffff:8.8.8.8"];
  const ipv6 = ["::", "::1", "::8.8.8.8", "2001:db8::1", "ffff::", "::fffe:8.8.8.8", "::ff00:0:1"];
  check(["0.0.0.0/0"], ipv4, ipv6);
  check(["::/0"], ipv6, ipv4);
  check(["0.0.0.0/0", "::/0"], [...ipv4, ...ipv6], []);
  check(["::ffff:0:0/96"], ipv4, ipv6);
  // Shorter than the mapping itself: a network of IPv6, whichever address stands before the /.
  check(["::ffff:0:0/0"], ipv6, ipv4);
  check(["::ffff:8.8.8.8/88"], ["::ff00:0:1"], [...ipv4, "::", "::1", "2001:db8::1"]);
});

Deno.test("an IPv4-mapped entry is one of IPv4", () => {
  check(
    ["::ffff:10.0.0.0/104", "::ffff:192.0.2.1", "::ffff:c633:6400/120"],
    ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "198.51.100.200"],
    ["11.0.0.0", "192.0.2.2", "198.51.101.0", "::10.1.2.3"],
  );
});

Deno.test("zones are not looked at and do not throw", () => {
  check(
    ["fe80::1%eth0", "fec0::%eth0/16"],
    ["fe80::1", "fe80::1%eth0", "fe80::1%eth1", "fec0::5%1"],
    ["fe80::2%eth0", "fe80::1%"],
  );
});

Deno.test("what is no address is not in a list, not even in one that has everything", () => {
  const list = new AddressList(["0.0.0.0/0", "::/0"]);
  for (
    const text of ["", "localhost", "1.2.3", "010.0.0.1", "1.2.3.4:80", "[::1]", "::1/128", "\0"]
  ) {
    assert.equal(list.has(text), false, text);
  }
});

Deno.test("an entry that is none is refused by name, never taken as something wider", () => {
  for (
    const entry of [
      "",
      "/",
      "/8",
      "10.0.0.0/",
      "10.0.0.0/33",
      "10.0.0.0/-1",
      "10.0.0.0/1e1",
      "10.0.0.0/8/8",
      "10.0.0/8",
      "fd00::/129",
      "fd00::/ 8",
      "example.org",
    ]
  ) {
    assert.throws(
      () => new AddressList(["::1", entry]),
      (error) => error instanceof RangeError && error.message.includes(JSON.stringify(entry)),
      entry,
    );
  }
});

Deno.test("the same as node:net's BlockList says, where that is consistent", () => {
  const v4 = fc.tuple(fc.ipV4(), fc.nat(32));
  const v6 = fc.tuple(fc.ipV6(), fc.nat(128)).filter(([address]) => !/^[0:]*:ffff:/i.test(address));
  const entry = fc.oneof(v4, v6);
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 5 }),
      fc.array(fc.oneof(fc.ipV4(), fc.ipV6())),
      (entries, more) => {
        const list = new AddressList(entries.map((parts) => parts.join("/")));
        const model = new BlockList();
        for (const [address, bits] of entries) model.addSubnet(address, bits, family(address));
        for (const address of [...more, ...entries.map(([address]) => address)]) {
          assert.equal(list.has(address), model.check(address, family(address)), address);
        }
      },
    ),
  );
});

function family(address: string): "ipv4" | "ipv6" {
  return address.includes(":") ? "ipv6" : "ipv4";
}
