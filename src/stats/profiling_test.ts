// The door for profiles where something is missing: permissions, a client that reads, one that stays.

import assert from "node:assert/strict";
import { createProfilingApp, PROFILING_LIMITS } from "./profiling.ts";
import { startStatsServer } from "./server.ts";

const DEPS = { node: "n1", token: () => "", listenHost: "127.0.0.1", allowedHosts: () => [] };

Deno.test("profiling: without the permission a profile is 501, and the heap is sent from memory", async () => {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const script = `
    import { createProfilingApp } from ${url("./profiling.ts")};
    const app = createProfilingApp({ ...${
    JSON.stringify(DEPS)
  }, token: () => "", allowedHosts: () => [] });
    const ask = (path) => app.request(path, { headers: { Host: "localhost" } });
    const profile = await ask("/profile?seconds=1");
    const heap = await ask("/heap");
    const { snapshot } = await heap.json();
    const answers = [profile.status, await profile.json(), heap.status, Object.keys(snapshot)];
    Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(answers)));`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, script);
    const config = new URL("../../deno.json", import.meta.url).pathname;
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", `--config=${config}`, file],
    }).output();
    const text = new TextDecoder();
    assert.equal(text.decode(stderr), "");
    const [status, { error }, heapStatus, keys] = JSON.parse(text.decode(stdout));
    assert.deepEqual([status, error.code, heapStatus], [501, "not-implemented", 200]);
    assert.match(error.message, /--allow-sys/);
    assert.ok(keys.includes("meta"));
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("profiling: a page of another site cannot stop the server for a heap", async () => {
  const heap = () => assert.fail("a heap was taken");
  const app = createProfilingApp(DEPS, { heap });
  const foreign: Record<string, string>[] = [
    { Origin: "http://evil.example" },
    { "Sec-Fetch-Site": "cross-site" },
    { "Sec-Fetch-Site": "same-site" },
  ];
  for (const headers of foreign) {
    const response = await app.request("/heap", { headers: { Host: "localhost", ...headers } });
    assert.equal(response.status, 403);
    assert.equal((await response.json()).error.code, "not-permitted");
  }
  // Who typed the address.
  const headers = { Host: "localhost", "Sec-Fetch-Site": "none" };
  assert.equal((await app.request("/", { headers })).status, 200);
});

Deno.test("profiling: who stops reading is closed, and the next one has his turn", async () => {
  const closed = Promise.withResolvers<void>();
  const heap = () =>
    Promise.resolve({
      read: () => Promise.resolve(new Uint8Array(64 * 1024)),
      close: () => closed.resolve(),
    });
  const app = createProfilingApp(DEPS, { heap, stallMs: 200 });
  const server = startStatsServer({
    hostname: "127.0.0.1",
    port: 0,
    app,
    limits: PROFILING_LIMITS,
  });
  try {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
    await conn.write(new TextEncoder().encode("GET /heap HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    await conn.read(new Uint8Array(1));
    const url = `http://127.0.0.1:${server.addr.port}/profile?seconds=1`;
    const busy = await fetch(url);
    assert.deepEqual([busy.status, (await busy.json()).error.code], [429, "too-busy"]);
    await closed.promise;
    const next = await fetch(url);
    assert.equal(next.status, 200);
    await next.body?.cancel();
  } finally {
    await server.close();
  }
});
