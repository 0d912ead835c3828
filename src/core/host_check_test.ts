// Hosts a door on loopback answers to, and those it does not.

import assert from "node:assert/strict";
import { isHostAllowed, isLoopback } from "./host_check.ts";

Deno.test("isLoopback", () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"]) {
    assert.equal(isLoopback(host), true, host);
  }
  for (const host of ["", "0.0.0.0", "::", "10.0.0.1", "127.evil.io", "example.org", "128.0.0.1"]) {
    assert.equal(isLoopback(host), false, host);
  }
});

Deno.test("isHostAllowed: on loopback only what a web page cannot be named", () => {
  const allowed = ["stats.example.org"];
  const good = [
    "localhost",
    "localhost:9020",
    "LocalHost.",
    "127.0.0.1:9020",
    "10.1.2.3",
    "[::1]",
    "[::1]:9020",
    "stats.example.org",
    "Stats.Example.Org:443",
  ];
  const bad = [
    "",
    ":9020",
    "evil.io",
    "evil.io:9020",
    "localhost.evil.io",
    "127.0.0.1.evil.io",
    "stats.example.org.evil.io",
    "evil.io:localhost",
    "localhost, evil.io",
    "0x7f.1",
    "2130706433",
    "[::1].evil.io",
    "user@localhost",
  ];
  for (const host of good) assert.equal(isHostAllowed(host, "127.0.0.1", allowed), true, host);
  for (const host of bad) assert.equal(isHostAllowed(host, "127.0.0.1", allowed), false, host);
});

Deno.test("isHostAllowed: elsewhere every host", () => {
  for (const listen of ["", "0.0.0.0", "192.168.1.5"]) {
    assert.equal(isHostAllowed("evil.io", listen, []), true);
  }
});
