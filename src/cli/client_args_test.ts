// Tests of the calls of sub, pub, his and bench.

import assert from "node:assert/strict";
import { parseArgs } from "./args.ts";

const SHARED = {
  servers: [{ hostname: "127.0.0.1", port: 2222 }],
  tls: false,
  identity: { kind: "nobody" },
  json: false,
};

function usageError(...argv: string[]): string {
  const parsed = parseArgs(argv);
  if (parsed.command !== "usage_error") return assert.fail(`${argv.join(" ")}: ${parsed.command}`);
  assert.ok(!parsed.message.includes("\n"), parsed.message);
  return parsed.message;
}

Deno.test("client calls: what they are called with", () => {
  assert.deepEqual(parseArgs(["sub", "a", "b", "a", "--from", "0"]), {
    command: "sub",
    ...SHARED,
    channels: ["a", "b"],
    from: "0",
  });
  assert.deepEqual(parseArgs(["pub", "a", " b  c "]), {
    command: "pub",
    ...SHARED,
    channel: "a",
    message: " b  c ",
  });
  assert.deepEqual(parseArgs(["pub", "a"]), { command: "pub", ...SHARED, channel: "a" });
  assert.deepEqual(parseArgs(["pub", "a", "--", "--tls"]), {
    command: "pub",
    ...SHARED,
    channel: "a",
    message: "--tls",
  });
  assert.deepEqual(parseArgs(["his", "a", "--limit", "10", "--json"]), {
    command: "his",
    ...SHARED,
    json: true,
    channel: "a",
    from: "0",
    limit: 10,
  });
});

Deno.test("client calls: bench", () => {
  const unset = { pubs: 1, subs: 1, channels: 1, size: 64, rate: 0, seconds: 10 };
  assert.deepEqual(parseArgs(["bench"]), { command: "bench", ...SHARED, ...unset });
  assert.deepEqual(parseArgs(["bench", "--subs", "0", "--rate", "20000", "--json"]), {
    command: "bench",
    ...SHARED,
    ...unset,
    json: true,
    subs: 0,
    rate: 20_000,
  });
  assert.match(usageError("bench", "--pubs", "0"), /^--pubs "0": write a number from 1 to 10000/);
  assert.match(usageError("bench", "--size", "1e3"), /^--size "1e3": write a number from 24 to/);
  assert.match(usageError("bench", "now"), /too many arguments/);
});

Deno.test("client calls: servers and who one is", () => {
  const servers = ["a", "a:1", ":3", "[::1]", "[::1]:4"].flatMap((text) => ["--server", text]);
  assert.deepEqual(parseArgs(["his", "c", ...servers, "--tls", "--tls-ca", "ca.pem"]), {
    command: "his",
    ...SHARED,
    channel: "c",
    from: "0",
    tls: true,
    tlsCa: "ca.pem",
    servers: [
      { hostname: "a", port: 2222 },
      { hostname: "a", port: 1 },
      { hostname: "localhost", port: 3 },
      { hostname: "::1", port: 2222 },
      { hostname: "::1", port: 4 },
    ],
  });
  for (
    const [argv, identity] of [
      [["--app", "shop", "--secret-file", "s"], { kind: "app", id: "shop", secretFile: "s" }],
      [["--user", "bob", "--token", "t"], {
        kind: "user",
        name: "bob",
        token: { kind: "given", token: "t", isUsed: false },
      }],
      [["--user", "bob", "--token-command", "make token"], {
        kind: "user",
        name: "bob",
        token: { kind: "command", command: "make token" },
      }],
    ] as const
  ) {
    assert.deepEqual(parseArgs(["pub", "c", "m", ...argv]), {
      command: "pub",
      ...SHARED,
      channel: "c",
      message: "m",
      identity,
    });
  }
});

Deno.test("client calls: what is wrong with them", () => {
  assert.match(usageError("sub"), /missing required argument 'channel'/);
  assert.match(usageError("sub", "a b"), /^"a b": the channel holds a space/);
  assert.match(usageError("sub", "a", "$b"), /^"\$b": .*reserved/);
  assert.match(usageError("sub", "a", "--from", "yesterday"), /^--from: the timestamp "yesterday"/);
  assert.match(usageError("his", "a", "--limit", "0"), /^--limit "0": write a number from 1 on/);
  assert.match(usageError("pub", "a", "b", "c"), /too many arguments/);
  for (const server of ["", "a:0", "a:65536", "http://a", "a b", "::1", "[x]"]) {
    assert.match(usageError("his", "a", "--server", server), /^--server ".*": write host:port/);
  }
  assert.match(usageError("his", "a", "--tls-ca", "f"), /--tls-ca goes with --tls/);
  for (
    const [argv, said] of [
      [["--app", "a"], "--app needs --secret-file"],
      [["--secret-file", "f"], "--secret-file goes with --app"],
      [["--user", "u"], "--user needs --token-command or --token"],
      [["--token", "t"], "a token goes with --user"],
      [["--user", "u", "--token", "t", "--token-command", "c"], "--token or --token-command"],
      [["--app", "a", "--secret-file", "f", "--user", "u"], "--app or --user, not both"],
      [["--app", "a", "--secret-file", "f", "--token", "t"], "a token goes with --user"],
    ] as const
  ) {
    assert.ok(usageError("his", "c", ...argv).startsWith(said), argv.join(" "));
  }
});
