// Tests of the parsers of single values.

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  formatDuration,
  formatSize,
  parseCidr,
  parseCount,
  parseDialAddr,
  parseDuration,
  parseHost,
  parseListenAddr,
  parseMongoUrl,
  parseName,
  parseOrigin,
  parseSize,
  ValueFault,
} from "./values.ts";

/** The message of the fault that `parse` finds in `text`. */
function fault(parse: (text: string) => unknown, text: string): string {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof ValueFault, `${error}`);
    return error.message;
  }
  return assert.fail(`${JSON.stringify(text)} was taken`);
}

function refuses(parse: (text: string) => unknown, texts: readonly string[], what: RegExp): void {
  for (const text of texts) assert.match(fault(parse, text), what, JSON.stringify(text));
}

Deno.test("parseDuration: whole numbers with units", () => {
  const cases: [string, number][] = [
    ["0", 0],
    ["500ms", 500],
    ["5s", 5000],
    ["2m", 120_000],
    ["90m", 5_400_000],
    ["1h30m", 5_400_000],
    ["1h1m1s1ms", 3_661_001],
    ["1000h", 3_600_000_000],
    ["876000h", 3_153_600_000_000],
  ];
  for (const [text, ms] of cases) assert.equal(parseDuration(text), ms, text);
});

Deno.test("parseDuration: anything else is refused", () => {
  const texts = [
    "",
    "5",
    "1e3ms",
    "-1s",
    "+1s",
    "5 s",
    "1h-3m",
    "1.5h",
    "5S",
    "2d",
    "30m1h",
    "1m1m",
  ];
  refuses(parseDuration, [...texts, " 5s", "5s ", "5s\n", "٣s", "s", "0x5s"], /such as .*5s/);
  refuses(parseDuration, ["876001h", `${"9".repeat(400)}h`], /876000h/);
});

Deno.test("parseSize: binary units or bytes", () => {
  assert.deepEqual(["0", "64KiB", "8MiB", "1GiB", "65536"].map(parseSize), [
    0,
    65_536,
    8_388_608,
    1_073_741_824,
    65_536,
  ]);
});

Deno.test("parseSize: says what was likely meant", () => {
  const cases: [string, string][] = [
    ["64kb", "64KiB"],
    ["64KB", "64KiB"],
    ["64k", "64KiB"],
    ["1.5MiB", "1536KiB"],
    ["1 MiB", "1MiB"],
    ["2g", "2GiB"],
  ];
  for (const [text, meant] of cases) {
    assert.equal(fault(parseSize, text), `not a size; write ${meant} or a number of bytes`);
  }
  refuses(parseSize, ["", "-1", "1e3", "0x10", "1.5", "007", "1TiB", "64kib x"], /64KiB, 8MiB/);
  refuses(parseSize, ["9".repeat(20), "9999999999GiB"], /more than can be counted/);
});

Deno.test("formatDuration and formatSize undo the parsers", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 3_153_600_000_000 }), (ms) => {
    assert.equal(parseDuration(formatDuration(ms)), ms);
  }));
  fc.assert(fc.property(fc.maxSafeInteger().map(Math.abs), (bytes) => {
    assert.equal(parseSize(formatSize(bytes)), bytes);
  }));
});

Deno.test("parseCount: decimal digits and nothing else", () => {
  assert.deepEqual(["0", "7", "4096"].map(parseCount), [0, 7, 4096]);
  const texts = ["", "0x10", "1e3", "1.5", "1.0", "-1", "+5", "007", "4_096", "4,096", " 1", "٣"];
  refuses(parseCount, [...texts, "9007199254740993", "9".repeat(30)], /decimal digits/);
});

Deno.test("parseListenAddr: host and port", () => {
  const cases: [string, string, number][] = [
    ["127.0.0.1:2222", "127.0.0.1", 2222],
    [":2222", "::", 2222],
    ["0.0.0.0:0", "0.0.0.0", 0],
    ["[::1]:2222", "::1", 2222],
    ["[0:0:0:0:0:0:0:1]:2222", "::1", 2222],
    ["[::]:65535", "::", 65_535],
    ["localhost:1", "localhost", 1],
    ["push-1.example.org.:1", "push-1.example.org.", 1],
  ];
  for (const [text, hostname, port] of cases) {
    assert.deepEqual(parseListenAddr(text), { hostname, port, text });
  }
});

Deno.test("parseListenAddr: says what is wrong with an address", () => {
  refuses(parseListenAddr, ["2222"], /write ":2222" for every interface/);
  refuses(parseListenAddr, ["127.0.0.1", "localhost"], /without a port/);
  refuses(parseListenAddr, ["a:65536", ":99999", ":123456"], /0 to 65535/);
  refuses(parseListenAddr, ["::1:2222", "fe80::1:2222"], /in brackets/);
  refuses(parseListenAddr, ["[x]:1", "[1.2.3.4]:1", "[fe80::1%eth0]:1"], /between \[ and \]/);
  refuses(parseListenAddr, ["*:1"], /every interface/);
  const hosts = [
    "1.2.3:1",
    "256.1.1.1:1",
    "0x7f.1:1",
    "a b:1",
    "-a:1",
    "a..b:1",
    "http://a:1",
    "a/b:1",
  ];
  refuses(parseListenAddr, hosts, /host name or an address/);
  refuses(parseListenAddr, ["", "a:", "a:b", ":-1", ":1e3", ":0x10", "a: 1"], /not an address/);
});

Deno.test("parseDialAddr: needs a host and a port", () => {
  assert.equal(parseDialAddr("10.0.0.1:2181").hostname, "10.0.0.1");
  refuses(parseDialAddr, [":2181", "0.0.0.0:1", "[::]:1", "[0:0::0]:1"], /needs a host/);
  refuses(parseDialAddr, ["a:0"], /1 to 65535/);
});

Deno.test("parseCidr, parseHost, parseOrigin", () => {
  for (const text of ["10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8", "0.0.0.0/0"]) {
    assert.equal(parseCidr(text), text);
  }
  refuses(parseCidr, ["", "a", "10.0.0", "10.0.0.0/8/8", "localhost"], /not an address/);
  refuses(parseCidr, ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08"], /0 to 32/);
  refuses(parseCidr, ["::/129", "::/-1", "::/1e1"], /0 to 128/);

  assert.equal(parseHost("Push.Example.org"), "push.example.org");
  assert.equal(parseHost("[::1]"), "[::1]");
  refuses(parseHost, ["a:80", "https://a", "a/b", "*", "a b", "1.2.3"], /without a port/);

  assert.equal(parseOrigin("*"), "*");
  assert.equal(parseOrigin("HTTPS://Chat.Example.org:443"), "https://chat.example.org");
  assert.equal(parseOrigin("http://[::1]:8080"), "http://[::1]:8080");
  assert.equal(parseOrigin("capacitor://localhost"), "capacitor://localhost");
  refuses(
    parseOrigin,
    ["null", "chat.example.org", "https://a/", "https://a/b", "https://u@a"],
    /origin/,
  );
  refuses(
    parseOrigin,
    ["https://*.example.org", "https://", "https://a?b", "https://a b"],
    /origin/,
  );
  refuses(parseOrigin, ["https://a:99999", "https://1.2.3"], /./);
  refuses(parseOrigin, ["https://:443"], /needs a host/);
});

Deno.test("parseName: the protocol's rules", () => {
  for (const name of ["a", "é", "a:b", "__proto__", "€".repeat(85), "a-b", "a$@"]) {
    assert.equal(parseName(name), name);
  }
  refuses(parseName, ["€".repeat(86), "a".repeat(256), "\ud800"], /255 bytes/);
  refuses(parseName, ["a b", "a\tb", "a\0", "a\x7f", "a\x85"], /control/);
  refuses(parseName, ["-a", "$a", "@a", "a*", ""], /name/);
});

Deno.test("parseMongoUrl: a connection string, never quoted in the fault", () => {
  const urls = [
    "mongodb://127.0.0.1:27017",
    "mongodb://u:p%40w@a:1,b:2/pushd?replicaSet=r",
    "mongodb+srv://u:p@cluster.example.org/pushd",
  ];
  for (const url of urls) assert.equal(parseMongoUrl(url), url);
  for (
    const url of ["http://u:hunter2@a", "mongodb://u:hun@ter2@a", "mongodb://u:hun/ter2@a", "a"]
  ) {
    assert.ok(!/hun|ter2/.test(fault(parseMongoUrl, url)), url);
  }
});
