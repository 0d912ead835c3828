// The stats door's answers, without a socket.

import assert from "node:assert/strict";
import { statsDeps } from "../../tests/stats_deps.ts";
import { createStatsApp, type StatsDeps } from "./app.ts";
import type { ReadyAnswer } from "./shapes.ts";

function newApp(overrides: Partial<StatsDeps> = {}) {
  return createStatsApp(statsDeps({
    snapshot: () => ({
      version: "1.2.3",
      build: "dev",
      nodeId: "host:2222",
      uptimeS: 5,
      stats: {
        connections: 1,
        pubsub_channel_count: 2,
        s2s_channel_count: 0,
        subscriptions: 3,
        published: 4,
        delivered: 5,
        slow_consumers: 0,
      },
    }),
    conf: () => ({ tcp_listen_addr: "127.0.0.1:2222", s2s_secret: "***" }),
    ...overrides,
  }));
}

type App = ReturnType<typeof newApp>;

async function ask(app: App, path: string, init: RequestInit & { host?: string } = {}) {
  const headers = new Headers(init.headers);
  headers.set("Host", init.host ?? "localhost:9020");
  const response = await app.request(path, { ...init, headers });
  const text = await response.text();
  const isJson = text !== "" &&
    response.headers.get("content-type") === "application/json; charset=utf-8";
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: isJson ? JSON.parse(text) : null,
  };
}

Deno.test("stats: ping, healthz, readyz", async () => {
  const app = newApp();
  for (const path of ["/s/ping", "/healthz"]) {
    const { status, json } = await ask(app, path);
    assert.deepEqual([status, json], [200, { status: "ok" }]);
  }
  assert.deepEqual((await ask(app, "/readyz")).json, { ready: true, failing: [] });
});

Deno.test("stats: readyz is 503 when not ready, and 200 with what is wrong elsewhere", async () => {
  let readiness: ReadyAnswer = { ready: false, failing: ["storage"] };
  const app = newApp({ readiness: () => readiness });
  const down = await ask(app, "/readyz");
  assert.deepEqual([down.status, down.json], [503, readiness]);
  assert.match(down.headers.get("retry-after") ?? "", /^\d+$/);
  readiness = { ready: true, failing: ["etc"] };
  const up = await ask(app, "/readyz");
  assert.deepEqual([up.status, up.json], [200, readiness]);
});

Deno.test("stats: /s/stat", async () => {
  const { status, json, headers } = await ask(newApp(), "/s/stat");
  assert.equal(status, 200);
  assert.equal(headers.get("cache-control"), "no-store");
  assert.deepEqual(Object.keys(json), ["ver", "build", "node", "uptime_s", "stats", "conf"]);
  assert.equal(json.ver, "1.2.3");
  assert.equal(json.stats.subscriptions, 3);
  assert.equal(json.conf.s2s_secret, "***");
});

Deno.test("stats: / lists what is there, as plain text", async () => {
  const { headers, text } = await ask(newApp(), "/");
  assert.match(headers.get("content-type") ?? "", /^text\/plain/);
  for (const path of ["/s/ping", "/s/stat", "/healthz", "/readyz"]) assert.ok(text.includes(path));
});

Deno.test("stats: an unknown path is 404, whatever it looks like", async () => {
  const app = newApp();
  for (const path of ["/nothing", "/s/ping/", "//", "/%ff", "/s/%70ing%", "/s", "/__proto__"]) {
    const { status, json } = await ask(app, path);
    assert.deepEqual([status, json?.error.code], [404, "not-found"], path);
  }
});

Deno.test("stats: another method is 405 with Allow and asks for nothing", async () => {
  const app = newApp({ snapshot: () => assert.fail("was asked") });
  for (const method of ["POST", "PUT", "DELETE", "PATCH", "QUERY"]) {
    const { status, json, headers } = await ask(app, "/s/stat", { method });
    assert.deepEqual([status, json.error.code], [405, "method-not-allowed"], method);
    assert.equal(headers.get("allow"), "GET, HEAD, OPTIONS");
  }
  const options = await ask(app, "/s/stat", { method: "OPTIONS" });
  assert.deepEqual([options.status, options.text], [204, ""]);
  assert.equal(options.headers.get("allow"), "GET, HEAD, OPTIONS");
  assert.equal((await ask(app, "/nothing", { method: "POST" })).status, 404);
});

Deno.test("stats: HEAD is GET without a body, which it tells the length of", async () => {
  for (const path of ["/", "/s/ping", "/s/stat", "/openapi.json"]) {
    const get = await ask(newApp(), path);
    const { status, text, headers } = await ask(newApp(), path, { method: "HEAD" });
    assert.deepEqual([status, text], [200, ""], path);
    assert.equal(headers.get("content-length"), `${new TextEncoder().encode(get.text).length}`);
    headers.delete("content-length");
    assert.deepEqual([...headers], [...get.headers], path);
  }
});

Deno.test("stats: on loopback a foreign Host is refused and told of allowed_hosts", async () => {
  const app = newApp({ allowedHosts: () => ["stats.example.org"] });
  const foreign = await ask(app, "/healthz", { host: "evil.io" });
  assert.deepEqual([foreign.status, foreign.json.error.code], [403, "not-permitted"]);
  assert.match(foreign.json.error.message, /"evil\.io".*allowed_hosts/);
  assert.equal((await ask(app, "/s/stat", { host: "stats.example.org" })).status, 200);
  // The absolute form of a request names a host, too.
  assert.equal((await ask(app, "http://evil.io/s/stat")).status, 403);
  const open = newApp({ listenHost: "0.0.0.0" });
  assert.equal((await ask(open, "/healthz", { host: "evil.io" })).status, 200);
});

Deno.test("stats: the token, as Bearer or as a Basic password", async () => {
  let token = "p:ss wörd";
  const app = newApp({ token: () => token });
  const asked = (authorization: string) =>
    ask(app, "/s/stat", { headers: { Authorization: authorization } });
  const latin1 = String.fromCharCode(...new TextEncoder().encode(token));

  const none = await ask(app, "/s/stat");
  assert.deepEqual([none.status, none.json.error.code], [401, "need-auth"]);
  assert.match(none.headers.get("www-authenticate") ?? "", /^Basic /);
  assert.equal((await ask(app, "/nothing")).status, 401);
  assert.equal((await ask(app, "/")).status, 401);
  assert.equal((await ask(app, "/healthz")).status, 200);
  assert.equal((await ask(app, "/readyz")).status, 200);

  assert.equal((await asked(`Bearer ${latin1}`)).status, 200);
  assert.equal((await asked(`bearer ${latin1}`)).status, 200);
  assert.equal((await asked(`Basic ${btoa(`anyone:${latin1}`)}`)).status, 200);
  assert.equal((await asked(`Basic ${btoa(`:${latin1}`)}`)).status, 200);
  for (
    const wrong of [
      "Bearer",
      "Bearer x",
      `Bearer ${latin1}x`,
      `Bearer ${latin1.slice(0, -1)}`,
      `Basic ${btoa("p:ss")}`,
      "Basic ???",
      `Digest ${latin1}`,
      latin1,
    ]
  ) {
    const { status, json } = await asked(wrong);
    assert.deepEqual([status, json.error.code], [401, "auth-failed"], wrong);
  }
  token = "another"; // by a reload
  assert.equal((await asked(`Bearer ${latin1}`)).status, 401);
  assert.equal((await asked("Bearer another")).status, 200);
});

Deno.test("stats: a host is refused before the token is looked at", async () => {
  const app = newApp({ token: () => "t" });
  assert.equal((await ask(app, "/s/stat", { host: "evil.io" })).status, 403);
});

Deno.test("stats: an error in the server is a JSON answer without its text", async () => {
  const app = newApp({
    snapshot: () => {
      throw new Error("inner workings");
    },
  });
  const { status, json, text } = await ask(app, "/s/stat?token=secret");
  assert.deepEqual([status, json.error.code], [500, "internal-error"]);
  assert.doesNotMatch(text, /inner|secret/);
});
