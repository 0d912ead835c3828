// Tests of showing a configuration.

import assert from "node:assert/strict";
import { loadConfig } from "./load.ts";
import { redact } from "./redact.ts";
import { defaultConfig } from "./schema.ts";

Deno.test("redact: as in the file, defaults filled in, secrets hidden", () => {
  const text = `
    session_timeout: 90m
    max_line_bytes: 1024
    tcp_listen_addr: ":2222"
    stats_token: hunter2
    apps: [{ id: "a", secret: "hunter2" }]
    mongodb: {
      url: "mongodb://u:hunter2@a:1/pushd?tlsCertificateKeyFilePassword=hunter2&w=majority"
      password: "hunter2"
    }
  `;
  const loaded = loadConfig({ text, env: { PUSHD_TOKEN_TTL: "60s" } });
  assert.ok(loaded.ok);
  const shown = redact(loaded.config);
  assert.ok(!/hunter2/.test(JSON.stringify(shown)));
  assert.equal(shown.session_timeout, "90m");
  assert.equal(shown.token_ttl, "60s");
  assert.equal(shown.auth_timeout, "10s");
  assert.equal(shown.max_line_bytes, 1024);
  assert.equal(shown.max_pending_bytes, "8MiB");
  assert.equal(shown.tcp_listen_addr, ":2222");
  assert.equal(shown.tls_listen_addr, "");
  assert.equal(shown.tcp_backlog, 4096);
  assert.equal(shown.stats_token, "***");
  assert.equal(shown.s2s_secret, "");
  assert.equal(shown.max_connections, null);
  assert.deepEqual(shown.apps, [{ id: "a", secret: "***" }]);
  assert.deepEqual(shown.sqlite, { path: "pushd.db" });
  const { url, password } = shown.mongodb as { url: string; password: string };
  assert.equal(url, "mongodb://***@a:1/pushd?tlsCertificateKeyFilePassword=***&w=majority");
  assert.equal(password, "***");
});

Deno.test("redact: a configuration that was not loaded", () => {
  const shown = redact(defaultConfig({ session_timeout: 5_400_000 }));
  assert.equal(shown.session_timeout, "1h30m");
  assert.equal(shown.msg_retention, 0);
  assert.deepEqual(shown.etc_servers, []);
});
