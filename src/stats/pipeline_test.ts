// Requests that are sent before the first is answered, on real sockets.

import assert from "node:assert/strict";
import { Hono } from "hono";
import {
  ask,
  connect,
  END,
  exchange,
  readAll,
  send,
  SHORT,
  withServer,
} from "../../tests/stats_server.ts";

Deno.test("pipeline: requests that come together are answered one after the other, in order", async () => {
  let running = 0;
  let most = 0;
  const app = new Hono();
  app.post("/:no", async (c) => {
    most = Math.max(most, ++running);
    // The first ones take longest.
    const no = Number(c.req.param("no"));
    for (let turn = no; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve));
    const body = await c.req.text();
    running--;
    return c.text(`no. ${no}, ${body};`);
  });
  const ask = (no: number, more = "") =>
    `POST /${no} HTTP/1.1\r\nHost: localhost\r\n${more}Content-Length: 2\r\n\r\nab`;
  await withServer(async (server) => {
    const expected = Array.from({ length: 300 }, (_, no) => `no. ${no}, ab;`);
    const requests = expected.map((_, no) => ask(no, no === 299 ? "Connection: close\r\n" : ""));
    const { answer } = await exchange(server, requests.join("") + ask(300));
    assert.deepEqual(answer.match(/no\. \d+, ab;/g), expected);
    assert.equal(most, 1);
  }, { app });
});

Deno.test("pipeline: while requests wait, no more of that connection is read, and others are served", async () => {
  const app = new Hono();
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  let count = 0;
  app.get("/", (c) => c.text(`no. ${++count}`));
  app.get("/slow", async (c) => {
    asked.resolve();
    await answer.promise;
    return c.text("done");
  });
  await withServer(async (server) => {
    const conn = await connect(server);
    const request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    await send(conn, request.replace("/", "/slow") + request.repeat(4));
    await asked.promise;
    // More than the system keeps for who does not read.
    let sent = 0;
    const chunk = new TextEncoder().encode(request.repeat(1000));
    const sending = (async () => {
      while (sent < 64 << 20) sent += await conn.write(chunk);
    })().catch(() => {});
    using other = await connect(server);
    for (let before = -1; before < sent;) {
      before = sent;
      for (let i = 0; i < 20; i++) assert.match(await ask(other, "/"), /^HTTP\/1\.1 200 /);
    }
    assert.ok(sent < 64 << 20);
    answer.resolve();
    // Now those are answered, in turns that leave others theirs.
    const startCount = count;
    for (let i = 0; i < 3; i++) assert.match(await ask(other, "/"), /^HTTP\/1\.1 200 /);
    assert.ok(count > startCount + 10, "the flood is not answered");
    conn.close();
    await sending;
  }, { app });
});

Deno.test("pipeline: what ends a connection waits for the answers before it", async () => {
  const app = new Hono();
  app.get("/", async (c) => {
    await new Promise((resolve) => setTimeout(resolve, 50));
    return c.text("ok");
  });
  await withServer(async (server) => {
    const good = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (
      const [last, statuses] of [
        ["nonsense\r\n\r\n", [200, 200, 400]],
        ["BREW / HTTP/1.1\r\n\r\n", [200, 200, 501]],
        ["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", [200, 200, 405]],
        ["GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", [200, 200, 417]],
        ["GET / HTTP/1.1\r\nHost: loc", [200, 200, 408]],
        [`GET / HTTP/1.1\r\n${END}nonsense`, [200, 200, 200]],
        [`GET / HTTP/1.1\r\n${END}${good}`, [200, 200, 200]],
      ] as const
    ) {
      const { answer } = await exchange(server, good.repeat(2) + last);
      const found = [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
      assert.deepEqual(found, statuses, last);
    }
  }, { app, limits: SHORT });
});

Deno.test("pipeline: a client that closes its side gets its answer, one that is gone none", async () => {
  let aborted = Promise.withResolvers<void>();
  let asked = Promise.withResolvers<void>();
  let answer = Promise.withResolvers<void>();
  const app = new Hono();
  app.get("/", async (c) => {
    c.req.raw.signal.addEventListener("abort", () => aborted.resolve());
    asked.resolve();
    await answer.promise;
    return c.text("done");
  });
  const request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  await withServer(async (server) => {
    using conn = await connect(server);
    await send(conn, request.repeat(3));
    await conn.closeWrite();
    await asked.promise;
    setTimeout(() => answer.resolve(), 20);
    assert.deepEqual((await readAll(conn)).match(/done/g)?.length, 3);

    answer = Promise.withResolvers();
    asked = Promise.withResolvers();
    aborted = Promise.withResolvers();
    const gone = await connect(server);
    await send(gone, request);
    await asked.promise;
    gone.close();
    await aborted.promise;
    answer.resolve();
  }, { app, limits: { halfClosedMs: 200 } });
});
