// Tests of loading from the environment and the command line.

import assert from "node:assert/strict";
import { loadConfig, type LoadOptions } from "./load.ts";
import { KEY_NAMES } from "./schema.ts";
import { variableOf } from "./from_env.ts";

type Sources = Omit<LoadOptions, "path">;

function load(sources: Sources) {
  const result = loadConfig({ text: "", ...sources });
  if (!result.ok) assert.fail(result.mistakes.join("\n"));
  return result;
}

function mistakeOf(sources: Sources): string {
  const result = loadConfig({ text: "", ...sources });
  if (result.ok) return assert.fail("no mistake");
  assert.equal(result.mistakes.length, 1, result.mistakes.join("\n"));
  return result.mistakes[0];
}

Deno.test("loadConfig: every key has a variable of its own", () => {
  assert.equal(new Set(KEY_NAMES.map(variableOf)).size, KEY_NAMES.length);
  assert.equal(variableOf("sqlite.path"), "PUSHD_SQLITE_PATH");
});

Deno.test("loadConfig: the environment wins over the file, the command line over both", () => {
  const { config, warnings } = load({
    text: "session_timeout: 1m\ntoken_ttl: 1m\nauth_timeout: 1m",
    env: { PUSHD_SESSION_TIMEOUT: "2m", PUSHD_TOKEN_TTL: "2m", PATH: "/bin", pushd_auth: "x" },
    overrides: { token_ttl: "3m" },
  });
  assert.deepEqual(
    [config.auth_timeout, config.session_timeout, config.token_ttl],
    [60_000, 120_000, 180_000],
  );
  assert.deepEqual(warnings, []);
});

Deno.test("loadConfig: lists and sections in the environment", () => {
  const { config } = load({
    env: {
      PUSHD_SQLITE_PATH: "/tmp/x # y",
      PUSHD_S2S_PEERS: "[::1]:2223, b:1",
      PUSHD_S2S_SECRET: "x",
      PUSHD_ETC_SERVERS: '["a:1", "b:2"]',
      PUSHD_ALLOWED_HOSTS: "a.org",
      PUSHD_WEB_ORIGINS: "",
      PUSHD_APPS: '[{"id": "a", "secret": "b"}]',
      PUSHD_PROXY_PROTOCOL: "false",
      PUSHD_MAX_CONNECTIONS: "10",
    },
  });
  assert.equal(config.sqlite.path, "/tmp/x # y");
  assert.deepEqual(config.s2s_peers.map(({ hostname }) => hostname), ["::1", "b"]);
  assert.deepEqual(config.etc_servers.map(({ text }) => text), ["a:1", "b:2"]);
  assert.deepEqual(config.allowed_hosts, ["a.org"]);
  assert.deepEqual(config.web_origins, []);
  assert.deepEqual(config.apps, [{ id: "a", secret: "b" }]);
  assert.equal(config.max_connections, 10);
});

Deno.test("loadConfig: mistakes in the environment name the variable", () => {
  assert.equal(mistakeOf({ env: { PUSHD_AUTH: "" } }), 'PUSHD_AUTH: "": write "off" or "on"');
  assert.match(
    mistakeOf({ env: { PUSHD_SESSION_TIMEOUT: "5" } }),
    /^PUSHD_SESSION_TIMEOUT: "5": not a/,
  );
  assert.match(
    mistakeOf({ env: { PUSHD_ETC_SERVERS: "a:1,b" } }),
    /^PUSHD_ETC_SERVERS: item 2: "b": /,
  );
  assert.match(mistakeOf({ env: { PUSHD_ETC_SERVERS: "[a:1, b:1]" } }), /not a list/);
  assert.match(
    mistakeOf({ env: { PUSHD_APPS: "a:hunter2" } }),
    /^PUSHD_APPS: \*\*\*: not a list; write \[\{ "id"/,
  );
  assert.match(
    mistakeOf({ env: { PUSHD_MAX_PENDING_BYTES: "1KiB" } }),
    /^PUSHD_MAX_PENDING_BYTES: "1KiB": less than/,
  );
  assert.match(
    mistakeOf({ overrides: { "sqlite.path": "" } }),
    /^command line: sqlite\.path: "": empty/,
  );
});

Deno.test("loadConfig: an unknown PUSHD_ variable warns, but for those of the tests", () => {
  const env = {
    PUSHD_AUHT: "1",
    PUSHD_TEST_X: "1",
    PUSHD_BIN: "x",
    PUSHD_REDIS_OFFLINE: "x",
    PUSHD_: "",
  };
  const { warnings } = load({ env });
  assert.equal(warnings.length, 3);
  assert.match(
    warnings[1],
    /^PUSHD_AUHT: no such key, left out; the nearest known name is PUSHD_AUTH$/,
  );
  assert.match(warnings[2], /^PUSHD_REDIS_OFFLINE: has no effect/);
});
