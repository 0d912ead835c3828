// PROXY headers: the specification's examples, every cut, every wrong byte, and whatever else may come.

import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { encodeUtf8 } from "./bytes.ts";
import { MAX_PROXY_HEADER_BYTES, parseProxyHeader, type ProxySource } from "./proxy_header.ts";

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const PROXY = 0x21;
const LOCAL = 0x20;
const TCP4 = 0x11;
const TCP6 = 0x21;
const UNIX = 0x31;
const UNSPEC = 0x00;
/** 172.19.0.1:42578 to 172.19.0.3:80. */
const IPV4_BLOCK = [172, 19, 0, 1, 172, 19, 0, 3, 0xa6, 0x52, 0x00, 0x50];
/** [2001:db8::1]:65535 to [2001:db8::2]:443. */
const IPV6_BLOCK = [...ipv6Bytes(0x01), ...ipv6Bytes(0x02), 0xff, 0xff, 0x01, 0xbb];
/** A NOOP of three bytes, as padding. */
const TLV = [0x04, 0x00, 0x03, 0xff, 0x0a, 0x00];

function ipv6Bytes(last: number): number[] {
  return [0x20, 0x01, 0x0d, 0xb8, ...Array<number>(11).fill(0), last];
}

/** A header of version 2; `length` says something else than the truth. */
function binary(command: number, family: number, rest: number[], length = rest.length): Uint8Array {
  return Uint8Array.of(...SIGNATURE, command, family, length >> 8, length & 255, ...rest);
}

/** A good header as text or bytes, and the source that it names. */
const GOOD: [string | Uint8Array, ProxySource | null][] = [
  // The examples of the specification, and its longest lines.
  [
    "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
    { address: "192.168.0.1", port: 56_324 },
  ],
  [
    "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
    { address: "255.255.255.255", port: 65_535 },
  ],
  [
    `PROXY TCP6 ${"ffff:".repeat(7)}ffff ${"ffff:".repeat(7)}ffff 65535 65535\r\n`,
    { address: `${"ffff:".repeat(7)}ffff`, port: 65_535 },
  ],
  ["PROXY UNKNOWN\r\n", null],
  [`PROXY UNKNOWN ${"ffff:".repeat(7)}ffff ${"ffff:".repeat(7)}ffff 65535 65535\r\n`, null],

  ["PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", { address: "0.0.0.0", port: 0 }],
  ["PROXY TCP6 ::1 :: 0 1\r\n", { address: "::1", port: 0 }],
  [
    "PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0001 fd00::1 4 5\r\n",
    { address: "2001:db8::1", port: 4 },
  ],
  ["PROXY TCP6 ::ffff:1.2.3.4 ::FFFF:102:304 7 8\r\n", { address: "1.2.3.4", port: 7 }],
  ["PROXY UNKNOWN \r\n", null],
  ["PROXY UNKNOWN  whatever\0\xff stands here\r\n", null],
  ["PROXY UNKNOWN TCP4 1.2.3.4\r\n", null],

  [binary(PROXY, TCP4, IPV4_BLOCK), { address: "172.19.0.1", port: 42_578 }],
  [binary(PROXY, TCP4, [...IPV4_BLOCK, ...TLV]), { address: "172.19.0.1", port: 42_578 }],
  [binary(PROXY, TCP6, IPV6_BLOCK), { address: "2001:db8::1", port: 65_535 }],
  [binary(PROXY, TCP6, [...IPV6_BLOCK, ...TLV]), { address: "2001:db8::1", port: 65_535 }],
  [
    binary(PROXY, TCP6, [...Array(10).fill(0), 255, 255, 1, 2, 3, 4, ...IPV6_BLOCK.slice(16)]),
    { address: "1.2.3.4", port: 65_535 },
  ],
  [binary(PROXY, UNIX, Array(216).fill(0x2f)), null],
  [binary(PROXY, UNSPEC, []), null],
  [binary(PROXY, UNSPEC, [1, 2, 3]), null],
  [binary(PROXY, 0x01, []), null],
  [binary(LOCAL, UNSPEC, []), null],
  [binary(LOCAL, TCP4, IPV4_BLOCK), null],
  [binary(LOCAL, TCP4, [1]), null],
  [binary(LOCAL, 0xff, TLV), null],
];

function bytesOf(header: string | Uint8Array): Uint8Array {
  if (typeof header !== "string") return header;
  return Uint8Array.from(header, (char) => char.charCodeAt(0));
}

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Expects "wrong" and returns the reason. */
function refused(header: string | Uint8Array): string {
  const result = parseProxyHeader(bytesOf(header));
  assert.equal(result.state, "wrong", JSON.stringify(header));
  const { reason } = result as { reason: string };
  assert.doesNotMatch(reason, /[^\x20-\x7e…\xa0-\xff]/);
  assert.ok(reason.length < 300, reason);
  return reason;
}

/** What has to be true of every result; returns its state. */
function checkAny(bytes: Uint8Array): string {
  const result = parseProxyHeader(bytes);
  if (result.state === "wrong") refused(bytes);
  else if (result.state === "more") assert.ok(bytes.length < MAX_PROXY_HEADER_BYTES);
  else {
    const { length, source } = result;
    assert.ok(length >= 15 && length <= Math.min(bytes.length, MAX_PROXY_HEADER_BYTES));
    if (source !== null) {
      assert.ok(isIPv4(source.address) || isIPv6(source.address), source.address);
      assert.ok(Number.isInteger(source.port) && source.port >= 0 && source.port <= 65_535);
    }
  }
  return result.state;
}

Deno.test("good headers", () => {
  for (const [header, source] of GOOD) {
    const bytes = bytesOf(header);
    assert.deepEqual(parseProxyHeader(bytes), { state: "done", length: bytes.length, source });
  }
});

Deno.test("the specification's example before an HTTP request", () => {
  const header = "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
  const request = "GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
  assert.deepEqual(parseProxyHeader(encodeUtf8(header + request)), {
    state: "done",
    length: header.length,
    source: { address: "192.168.0.1", port: 56_324 },
  });
});

Deno.test("every cut of a good header is more", () => {
  for (const [header] of GOOD) {
    const bytes = bytesOf(header);
    for (let cut = 0; cut < bytes.length; cut++) {
      assert.deepEqual(parseProxyHeader(bytes.slice(0, cut)), { state: "more" }, `cut at ${cut}`);
    }
  }
});

Deno.test("bytes before and behind the header are not touched", () => {
  for (const [header, source] of GOOD) {
    const bytes = bytesOf(header);
    for (const behind of ["\n", "\r\n", " ", "\0", "ping\r\n", "PROXY UNKNOWN\r\n"]) {
      const all = join(Uint8Array.of(0xff, 0xff, 0xff), bytes, encodeUtf8(behind));
      const before = all.slice();
      const { length } = bytes;
      assert.deepEqual(parseProxyHeader(all.subarray(3)), { state: "done", length, source });
      assert.deepEqual(all, before);
      // What lies in the same buffer and is not part of the view is not read.
      assert.deepEqual(parseProxyHeader(all.subarray(3, 3 + length - 1)), { state: "more" });
    }
  }
});

Deno.test("wrong at the first byte that no header has", () => {
  const openings = ["PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN", "\r\n\r\n\0\r\nQUIT\n"];
  for (const opening of openings) {
    for (let at = 0; at < opening.length; at++) {
      for (let byte = 0; byte < 256; byte++) {
        const start = opening.slice(0, at) + String.fromCharCode(byte);
        if (openings.some((other) => other.startsWith(start))) continue;
        const hex = byte.toString(16).padStart(2, "0");
        assert.match(refused(start), new RegExp(`byte ${at + 1} is 0x${hex};`), start);
      }
    }
  }
});

Deno.test("what clients without a proxy begin with is wrong at once", () => {
  for (
    const begin of ["ping\r\n", "G", "\x16\x03\x01", "\0", "\n", "proxy ", "PROXY\r", "\r\n\r\r"]
  ) {
    assert.match(refused(begin), /no PROXY header/);
  }
});

Deno.test("version 1: lines that are not exactly as they should be", () => {
  const cases: [string, RegExp][] = [
    ["PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", /byte 7 is 0x20/],
    ["PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", /byte 7 is 0x74/],
    ["PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", /byte 10 is 0x35/],
    ["PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", /byte 8 is 0x44/],
    ["PROXY UNKNOWNS\r\n", /byte 14 is 0x53/],
    ["PROXY TCP4\r\n", /byte 11 is 0x0d/],
    ["PROXY TCP4 \r\n", /has 6 words .* this one 3/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", /this one 5/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", /this one 7/],
    ["PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", /this one 7/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", /this one 7/],
    ["PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n", /this one 5/],
    ["PROXY TCP4  5.6.7.8 1 2\r\n", /"" in a PROXY TCP4 line is no address of IPv4/],
    ["PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n", /"1\.2\.3\.04"/],
    ["PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", /"1\.2\.3\.256"/],
    ["PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", /"1\.2\.3"/],
    ["PROXY TCP4 1.2.3.4 05.6.7.8 1 2\r\n", /"05\.6\.7\.8"/],
    ["PROXY TCP4 ::1 5.6.7.8 1 2\r\n", /"::1" in a PROXY TCP4 line is no address of IPv4/],
    ["PROXY TCP4 ::ffff:1.2.3.4 5.6.7.8 1 2\r\n", /no address of IPv4/],
    ["PROXY TCP4 1.2.3.4 localhost 1 2\r\n", /"localhost"/],
    ["PROXY TCP4 1.2.3.\x1b[2J 5.6.7.8 1 2\r\n", /"1\.2\.3\.\\x1b\[2J"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8\0 1 2\r\n", /"5\.6\.7\.8\\x00"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.\x85 1 2\r\n", /"5\.6\.7\.\\x85"/],
    ["PROXY TCP6 1.2.3.4 ::1 1 2\r\n", /"1\.2\.3\.4" in a PROXY TCP6 line is no address of IPv6/],
    ["PROXY TCP6 ::1 1.2.3.4 1 2\r\n", /no address of IPv6/],
    ["PROXY TCP6 1::2::3 ::1 1 2\r\n", /"1::2::3"/],
    ["PROXY TCP6 12345:: ::1 1 2\r\n", /"12345::"/],
    ["PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", /"fe80::1%eth0"/],
    ["PROXY TCP6 [::1] ::1 1 2\r\n", /"\[::1\]"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", /"01" in a PROXY TCP4 line is no port/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", /"65536"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 100000 2\r\n", /"100000"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 00\r\n", /"00"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n", /"-1"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", /"\+1"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1e3 2\r\n", /"1e3"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 0x1 2\r\n", /"0x1"/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n", /"" in a PROXY TCP4 line is no port/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", /this one in LF alone/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rx", /this one in CR alone/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n", /this one in CR alone/],
    ["PROXY UNKNOWN x\n", /this one in LF alone/],
    ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\n", /this one in LF alone/],
    ["PROXY UNKNOWN x\ry\r\n", /this one in CR alone/],
    ["PROXY UNKNOWN\n", /byte 14 is 0x0a/],
    ["PROXY UNKNOWN\rx", /byte 15 is 0x78/],
  ];
  for (const [line, reason] of cases) assert.match(refused(line), reason, JSON.stringify(line));
});

Deno.test("version 1: at most 107 bytes with the CRLF", () => {
  const begin = "PROXY UNKNOWN ";
  const longest = `${begin.padEnd(105, "x")}\r\n`;
  assert.equal(longest.length, 107);
  assert.equal(parseProxyHeader(bytesOf(longest)).state, "done");
  assert.match(refused(`${begin.padEnd(106, "x")}\r\n`), /at most 107 bytes/);
  // Decided as soon as the CRLF has no room left.
  assert.equal(parseProxyHeader(bytesOf(begin.padEnd(105, "x"))).state, "more");
  assert.match(refused(begin.padEnd(106, "x")), /at most 107 bytes/);
  assert.match(refused("PROXY TCP4 ".padEnd(100_000, "1")), /at most 107 bytes/);
});

Deno.test("version 2: command, version and family are checked as they come", () => {
  for (let byte = 0; byte < 256; byte++) {
    const start = Uint8Array.of(...SIGNATURE, byte);
    if (byte === PROXY || byte === LOCAL) assert.equal(checkAny(start), "more");
    else if (byte >> 4 === 2) assert.match(refused(start), new RegExp(`command ${byte & 15};`));
    else assert.match(refused(start), new RegExp(`of version ${byte >> 4};`));

    assert.equal(checkAny(Uint8Array.of(...SIGNATURE, LOCAL, byte)), "more");
    const family = Uint8Array.of(...SIGNATURE, PROXY, byte);
    const good = [0x00, 0x01, TCP4, TCP6, UNIX];
    if (good.includes(byte)) assert.equal(checkAny(family), "more");
    else assert.match(refused(family), /family and transport 0x/);
  }
});

Deno.test("version 2: the length is at least that of the addresses", () => {
  for (const [family, needed] of [[TCP4, 12], [TCP6, 36], [UNIX, 216]]) {
    for (let length = 0; length < needed; length++) {
      const reason = refused(binary(PROXY, family, [], length));
      assert.match(reason, new RegExp(`with ${length} bytes of addresses; .* needs ${needed}$`));
    }
    assert.equal(checkAny(binary(PROXY, family, [], needed)), "more");
  }
});

Deno.test("version 2: the whole header is at most MAX_PROXY_HEADER_BYTES", () => {
  const most = MAX_PROXY_HEADER_BYTES - 16;
  for (const [command, family] of [[PROXY, TCP4], [PROXY, TCP6], [PROXY, UNSPEC], [LOCAL, 0xff]]) {
    const longest = binary(command, family, Array(most).fill(1));
    assert.equal(checkAny(longest), "done");
    assert.equal(checkAny(longest.slice(0, -1)), "more");
    for (const length of [most + 1, 65_535]) {
      assert.match(refused(binary(command, family, [], length)), /at most 4096/);
      // Not before the length is known.
      assert.equal(checkAny(binary(command, family, [], length).slice(0, 15)), "more");
    }
  }
});

Deno.test("whatever addresses and ports a header has, they are read", () => {
  const port = fc.nat(65_535);
  const behind = fc.uint8Array({ maxLength: 20 });
  const canonical = (address: string) => new URL(`http://[${address}]`).hostname.slice(1, -1);
  const octets = (length: number) =>
    fc.array(fc.nat(255), { minLength: length, maxLength: length });
  const two = ([from, to]: number[]) => [from >> 8, from & 255, to >> 8, to & 255];
  fc.assert(
    fc.property(octets(8), octets(32), fc.tuple(port, port), behind, (ipv4, ipv6, ports, rest) => {
      const v4 = [ipv4.slice(0, 4), ipv4.slice(4)].map((address) => address.join("."));
      const v6 = [ipv6.slice(0, 16), ipv6.slice(16)].map((address) =>
        Array.from({ length: 8 }, (_, i) => (address[2 * i] << 8 | address[2 * i + 1]).toString(16))
          .join(":")
      );
      const cases: [string | Uint8Array, string][] = [
        [`PROXY TCP4 ${v4[0]} ${v4[1]} ${ports[0]} ${ports[1]}\r\n`, v4[0]],
        [`PROXY TCP6 ${v6[0]} ${v6[1]} ${ports[0]} ${ports[1]}\r\n`, canonical(v6[0])],
        [binary(PROXY, TCP4, [...ipv4, ...two(ports), ...rest]), v4[0]],
        [binary(PROXY, TCP6, [...ipv6, ...two(ports), ...rest]), canonical(v6[0])],
      ];
      for (const [header, address] of cases) {
        const bytes = bytesOf(header);
        const expected = {
          state: "done",
          length: bytes.length,
          source: { address, port: ports[0] },
        };
        assert.deepEqual(parseProxyHeader(join(bytes, rest)), expected);
      }
    }),
  );
});

Deno.test("a good header with any byte changed never throws, and what is said stays true of more", () => {
  const headers = fc.constantFrom(...GOOD.map(([header]) => bytesOf(header)));
  const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(headers, changes, fc.nat(), (header, changes, at) => {
      const bytes = header.slice();
      for (const [place, byte] of changes) bytes[place % bytes.length] = byte;
      const cut = at % (bytes.length + 1);
      checkAny(bytes);
      const begin = checkAny(bytes.subarray(0, cut));
      if (begin !== "more") {
        assert.deepEqual(parseProxyHeader(bytes), parseProxyHeader(bytes.subarray(0, cut)));
      }
    }),
    { numRuns: 3000 },
  );
});

Deno.test("every byte of a header changed to every other", () => {
  for (const [header] of GOOD.filter(([header]) => header.length < 60)) {
    const good = bytesOf(header);
    for (let at = 0; at < good.length; at++) {
      for (let byte = 0; byte < 256; byte++) {
        const bytes = good.slice();
        bytes[at] = byte;
        checkAny(bytes);
      }
    }
  }
});

Deno.test("whatever bytes come, nothing throws", () => {
  const openings = [
    "",
    "PROXY ",
    "PROXY TCP4 ",
    "PROXY TCP6 ",
    "PROXY UNKNOWN",
    "\r\n\r\n\0\r\nQUIT\n",
  ];
  const line = fc.string({ unit: fc.constantFrom(..."0123456789abcdef:. %\r\n\0\xff") });
  const bytes = fc.oneof(fc.uint8Array({ maxLength: 300 }), line.map(bytesOf));
  fc.assert(
    fc.property(fc.constantFrom(...openings), bytes, (opening, rest) => {
      checkAny(join(bytesOf(opening), rest));
    }),
    { numRuns: 3000 },
  );
});
