// The request that nobody has sent.

import assert from "node:assert/strict";
import { Hono } from "hono";
import { withServer } from "../../tests/stats_server.ts";

Deno.test("warm up: app and server answer a request each, and nothing is left of it", async () => {
  const seen: string[] = [];
  const both = Promise.withResolvers<void>();
  const app = new Hono();
  app.get("/healthz", (c) => {
    seen.push(`${c.req.method} ${c.req.url}`);
    if (seen.length === 2) both.resolve();
    return c.text("ok");
  });
  await withServer(async (server) => {
    await server.warmUp();
    await both.promise;
  }, { app });
  assert.deepEqual(seen, Array(2).fill("GET http://localhost/healthz"));
});
