// The stats door on real sockets: deadlines, odd requests, closing.

import assert from "node:assert/strict";
import type { HttpBindings } from "@hono/node-server";
import { Hono } from "hono";
import {
  ask,
  connect,
  END,
  exchange,
  readAll,
  send,
  SHORT,
  statsApp,
  withServer,
} from "../../tests/stats_server.ts";
import { writeAll } from "../core/write_all.ts";
import { goesOn, startStatsServer } from "./server.ts";

Deno.test("stats server: answers, and frees a port that it says", async () => {
  await withServer(async (server) => {
    assert.equal(server.addr.hostname, "127.0.0.1");
    const response = await fetch(`http://127.0.0.1:${server.addr.port}/s/ping`);
    assert.deepEqual(await response.json(), { status: "ok" });
  });
});

Deno.test("stats server: a port taken is an error that says so", async () => {
  await withServer(({ addr }) => {
    assert.throws(() => startStatsServer({ ...addr, app: statsApp() }), Deno.errors.AddrInUse);
    return Promise.resolve();
  });
});

Deno.test("stats server: an address of another machine is an error that says so", () => {
  assert.throws(
    () => startStatsServer({ hostname: "192.0.2.1", port: 0, app: statsApp() }),
    Deno.errors.AddrNotAvailable,
  );
});

Deno.test("stats server: odd requests get a clean answer", async () => {
  await withServer(async (server) => {
    for (
      const [request, status] of [
        [`GET /%ff HTTP/1.1\r\n${END}`, 404],
        [`GET /% HTTP/1.1\r\n${END}`, 404],
        [`GET // HTTP/1.1\r\n${END}`, 404],
        [`GET /../../etc/passwd HTTP/1.1\r\n${END}`, 404],
        [`GET http://localhost/s/ping HTTP/1.1\r\n${END}`, 200],
        [`GET HTTP://LOCALHOST:/s/ping HTTP/1.1\r\n${END}`, 200],
        [`GET http://evil.io/s/ping HTTP/1.1\r\n${END}`, 403],
        [`GET http://[/s/ping HTTP/1.1\r\n${END}`, 400],
        ["GET /s/ping HTTP/1.1\r\nHost: evil.io\r\nConnection: close\r\n\r\n", 403],
        [
          "GET /s/ping HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\nConnection: close\r\n\r\n",
          400,
        ],
        [`GET /s/ping HTTP/1.1\r\nHost: localhost:\r\nConnection: close\r\n\r\n`, 200],
        [`GET /s/ping HTTP/1.1\r\nHost: [::1]:\r\nConnection: close\r\n\r\n`, 200],
        [`GET /s/ping HTTP/1.1\r\nHost: evil.io:\r\nConnection: close\r\n\r\n`, 403],
        [`GET /s/ping HTTP/1.1\r\nHost: :\r\nConnection: close\r\n\r\n`, 400],
        [`GET /s/ping HTTP/1.1\r\nHost: localhost::\r\nConnection: close\r\n\r\n`, 400],
        ["GET /s/ping HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", 400],
        ["GET /s/ping HTTP/1.1\r\nConnection: close\r\n\r\n", 400],
        ["GET /s/ping HTTP/1.0\r\n\r\n", 200],
        ["GET /s/ping HTTP/1.0\r\nHost: localhost\r\n\r\n", 200],
        [`GET /s/ping HTTP/2.0\r\n${END}`, 505],
        [`OPTIONS * HTTP/1.1\r\n${END}`, 204],
        [`GET * HTTP/1.1\r\n${END}`, 400],
        [`GET ${"/x".repeat(40_000)} HTTP/1.1\r\n${END}`, 431],
        [`POST /s/ping HTTP/1.1\r\nContent-Length: 3\r\n${END}abc`, 405],
        [`POST /s/ping HTTP/1.1\r\nContent-Length: abc\r\n${END}`, 400],
        [`BREW /s/ping HTTP/1.1\r\n${END}`, 501],
        [`GETS /s/ping HTTP/1.1\r\n${END}`, 501],
        [`get /s/ping HTTP/1.1\r\n${END}`, 501],
        [`M-SEARCH /s/ping HTTP/1.1\r\n${END}`, 405],
        ["sub channel1\r\n", 400],
        ["\x16\x03\x01\x02\x00\x01\x00", 400],
      ] as const
    ) {
      const { answer } = await exchange(server, request);
      assert.match(
        answer,
        new RegExp(`^HTTP/1\\.1 ${status} `),
        JSON.stringify(request.slice(0, 60)),
      );
    }
    // And it is well after all that.
    assert.match(
      (await exchange(server, `GET /s/ping HTTP/1.1\r\n${END}`)).answer,
      /^HTTP\/1\.1 200 /,
    );
  });
});

/** Requests of which a proxy and a server may see different ends, and what else is asked to get behind. */
const SMUGGLED = [
  ["Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nX"],
  ["Transfer-Encoding: chunked\r\nContent-Length: 6", "0\r\n\r\nX"],
  ["Content-Length: 0\r\nContent-Length: 3", "abc"],
  ["Content-Length: 3\r\nContent-Length: 3", "abc"],
  ["Content-Length: 3, 3", "abc"],
  ["Content-Length: +3", "abc"],
  ["Content-Length: -1", ""],
  ["Content-Length: 99999999999999999999", "abc"],
  ["Transfer-Encoding: xchunked", "0\r\n\r\n"],
  ["Transfer-Encoding : chunked", "0\r\n\r\n"],
  ["Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"],
  ["Transfer-Encoding: chunked", "zz\r\n"],
  ["Transfer-Encoding: chunked", "5\r\nhelloXX"],
  ["Transfer-Encoding: chunked", "fffffffffffffffff\r\n"],
  ["X: a\r\n b", ""],
  ["X: a\nY: b", ""],
  ["X: a\rY: b", ""],
  ["X: a\0b", ""],
  ["X Y: a", ""],
];

Deno.test("stats server: forms of smuggling are refused, and what is behind them is not read", async () => {
  await withServer(async (server) => {
    const next = `GET /nothing HTTP/1.1\r\n${END}`;
    for (const [header, body] of SMUGGLED) {
      const request = `POST /s/ping HTTP/1.1\r\n${header}\r\nHost: localhost\r\n\r\n${body}`;
      const { answer } = await exchange(server, request + next);
      assert.deepEqual(answer.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 400"], header);
      assert.match(answer, /\r\n\r\n\{"error":\{"code":"bad-argument"/);
    }
    const { answer } = await exchange(server, "GET /s/ping HTTP/1.1\nHost: localhost\n\n");
    assert.match(answer, /^HTTP\/1\.1 400 /);
  });
});

Deno.test("stats server: what no server of pages is asked gets a clean answer, too", async () => {
  await withServer(async (server) => {
    const cases: [string, number][] = [
      ["GET /%2e%2e/%2e%2e/etc/passwd", 404],
      ["GET /s/..%2f..%2fetc%2fpasswd", 404],
      ["GET /s/..%5c..%5cetc%5cpasswd", 404],
      ["GET /s\\ping", 400],
      ["GET file:///etc/passwd", 400],
      ["GET http://localhost@evil.io/s/ping", 403],
      ["CONNECT evil.io:80", 405],
      ["TRACE /s/ping", 405],
      [`GET /${"x".repeat(14_000)}`, 404],
      [`GET /s/ping?${"x".repeat(20_000)}`, 431],
      ["GET /s/ping HTTP/1.1\r\nExpect: more", 417],
    ];
    for (const [request, status] of cases) {
      const version = request.includes(" HTTP/") ? "" : " HTTP/1.1";
      const { answer } = await exchange(server, `${request}${version}\r\n${END}`);
      const [head, body] = answer.split("\r\n\r\n");
      assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `), request.slice(0, 60));
      assert.match(head, /\r\ncontent-type: application\/json; charset=utf-8/i);
      assert.equal(typeof JSON.parse(body).error.code, "string");
      assert.doesNotMatch(body, /root:/);
    }
  });
});

Deno.test("stats server: eight megabytes of headers are 431, and no reset", async () => {
  await withServer(async (server) => {
    for (const header of [`X: ${"a".repeat(8 << 20)}\r\n`, "X: a\r\n".repeat(1_300_000)]) {
      const conn = await connect(server);
      // Some systems throw away what a client has not read when its connection is reset.
      await writeAll(conn, new TextEncoder().encode(`GET / HTTP/1.1\r\n${header}${END}`));
      const answer = await new Response(conn.readable).text();
      assert.match(answer, /^HTTP\/1\.1 431 [^]*"line-too-long"/);
      assert.deepEqual(answer.match(/HTTP\/1\.1/g)?.length, 1);
    }
  });
});

Deno.test("stats server: errors that came before a request are JSON, too", async () => {
  await withServer(async (server) => {
    const { answer } = await exchange(server, "GET\r\n\r\n");
    const [head, body] = answer.split("\r\n\r\n");
    assert.match(
      head,
      /^HTTP\/1\.1 400 Bad Request\r\nContent-Type: application\/json; charset=utf-8/,
    );
    assert.equal(JSON.parse(body).error.code, "bad-argument");
  });
});

Deno.test("stats server: half-sent headers, silence and stalled bodies end at the deadline", async () => {
  await withServer(async (server) => {
    const results = await Promise.all([
      "",
      "GET /s/ping HTTP/1.1\r\nHost: loc",
      `POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc`,
    ].map((text) => exchange(server, text)));
    for (const { ms } of results) assert.ok(ms < 3000, `${ms} ms`);
  }, { limits: SHORT });
});

Deno.test("stats server: headers at a byte now and then end at the deadline", async () => {
  await withServer(async (server) => {
    using conn = await connect(server);
    const startMs = performance.now();
    const ended = readAll(conn);
    await send(conn, "GET /s/ping HTTP/1.1\r\nX: ");
    const drip = setInterval(() => void send(conn, "x"), 20);
    const answer = await ended;
    clearInterval(drip);
    assert.match(answer, /^($|HTTP\/1\.1 408 )/);
    const ms = performance.now() - startMs;
    assert.ok(ms > 150 && ms < 3000, `${ms} ms`);
  }, { limits: SHORT });
});

Deno.test("stats server: a body that a handler waits for ends at the deadline", async () => {
  const app = new Hono();
  const seen = Promise.withResolvers<string>();
  app.post("/", async (c) => {
    await c.req.text().catch((error) => seen.resolve(String(error)));
    return c.text("done");
  });
  await withServer(async (server) => {
    const { ms } = await exchange(
      server,
      "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
    );
    assert.ok(ms < 3000, `${ms} ms`);
    await seen.promise;
  }, { app, limits: SHORT });
  // The adapter looks after an aborted body in further turns of the event loop.
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve));
});

Deno.test("stats server: a client that does not read its answer is closed at the deadline", async () => {
  const size = 50_000_000;
  const over = Promise.withResolvers<void>();
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.get("/", (c) => {
    c.env.outgoing.once("close", () => over.resolve());
    return c.text("x".repeat(size));
  });
  await withServer(async (server) => {
    using conn = await connect(server);
    await send(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // The first bytes show that the answer is under way; then nothing is read until it is over.
    await conn.read(new Uint8Array(1));
    await over.promise;
    const text = await readAll(conn);
    assert.ok(text.length < size, "the server waited for the client");
  }, { app, limits: SHORT });
});

Deno.test("stats server: an idle keep-alive connection is closed", async () => {
  await withServer(async (server) => {
    const { answer, ms } = await exchange(
      server,
      "GET /s/ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert.match(answer, /^HTTP\/1\.1 200 /);
    assert.ok(ms < 4000, `${ms} ms`);
  }, { limits: SHORT });
});

Deno.test("stats server: at the bound whoever has waited longest goes for one who comes", async () => {
  await withServer(async (server) => {
    using early = await connect(server);
    using half = await connect(server);
    await send(half, "GET /s/ping HTTP/1.1\r\nHost: loc");
    using silent = await connect(server);
    // It was answered last, and so it is the last to go.
    assert.match(await ask(early), /^HTTP\/1\.1 200 /);
    using fourth = await connect(server);
    assert.match(await ask(fourth), /^HTTP\/1\.1 200 /);
    assert.equal(await readAll(half), "");
    using fifth = await connect(server);
    assert.equal(await readAll(silent), "");
    for (const conn of [early, fourth, fifth]) {
      assert.match(await ask(conn), /^HTTP\/1\.1 200 /);
    }
  }, { limits: { maxConnections: 3 } });
});

Deno.test("stats server: who is being answered stays, unless nobody there reads", async () => {
  const app = new Hono();
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  app.get("/", (c) => c.text("ok"));
  app.get("/slow", async (c) => {
    asked.resolve();
    await answer.promise;
    return c.text("done");
  });
  app.get("/big", (c) => c.text("x".repeat(50_000_000)));
  await withServer(async (server) => {
    using slow = await connect(server);
    const answered = ask(slow, "/slow");
    await asked.promise;
    using silent = await connect(server);
    using third = await connect(server);
    assert.match(await ask(third, "/"), /^HTTP\/1\.1 200 /);
    assert.equal(await readAll(silent), "");
    answer.resolve();
    assert.match(await answered, /^HTTP\/1\.1 200 /);

    // The first bytes show that the answers are under way.
    for (const conn of [third, slow]) await ask(conn, "/big");
    using last = await connect(server);
    assert.match(await ask(last, "/"), /^HTTP\/1\.1 200 /);
    assert.ok((await readAll(third)).length < 50_000_000);
  }, { app, limits: { maxConnections: 2 } });
});

Deno.test("stats server: close ends idle connections at once and stalled answers after the grace", async () => {
  const app = new Hono();
  app.get("/", (c) => c.text("ok"));
  app.get("/big", (c) => c.text("x".repeat(50_000_000)));
  const server = startStatsServer({
    hostname: "127.0.0.1",
    port: 0,
    app,
    limits: { closeGraceMs: 100 },
  });
  using idle = await connect(server);
  await send(idle, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await idle.read(new Uint8Array(1000));
  using silent = await connect(server);
  using stalled = await connect(server);
  await send(stalled, "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await stalled.read(new Uint8Array(1));
  const startMs = performance.now();
  await Promise.all([server.close(), server.close(), readAll(idle), readAll(silent)]);
  const ms = performance.now() - startMs;
  assert.ok(ms < 2000, `${ms} ms`);
  await assert.rejects(connect(server));
});

Deno.test("stats server: works with the permission to listen and nothing else", async () => {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(
      script,
      `import { createStatsApp } from ${url("./app.ts")};
       import { startStatsServer } from ${url("./server.ts")};
       import { statsDeps } from ${url("../../tests/stats_deps.ts")};
       const app = createStatsApp(statsDeps());
       const server = startStatsServer({ hostname: "127.0.0.1", port: 0, app });
       const response = await fetch("http://127.0.0.1:" + server.addr.port + "/s/ping");
       console.log(response.status, await response.text());
       await server.close();`,
    );
    const config = new URL("../../deno.json", import.meta.url).pathname;
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", "--allow-net", `--config=${config}`, script],
    }).output();
    const text = new TextDecoder();
    assert.equal(code, 0, text.decode(stderr));
    assert.equal(text.decode(stdout), '200 {"status":"ok"}\n\n');
  } finally {
    await Deno.remove(script);
  }
});

Deno.test("stats server: an answer that goes on lives as long as its client reads", async () => {
  const app = new Hono<{ Bindings: HttpBindings }>();
  let tell: (text: string) => void = () => {};
  let over = Promise.withResolvers<void>();
  app.get("/", (c) => {
    goesOn(c.env.outgoing);
    over = Promise.withResolvers();
    c.env.outgoing.once("close", () => over.resolve());
    const body = new ReadableStream({
      start: (controller) => {
        tell = (text) => controller.enqueue(new TextEncoder().encode(text));
      },
    });
    return new Response(body);
  });
  await withServer(async (server) => {
    using conn = await connect(server);
    await send(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const buffer = new Uint8Array(4096);
    // The head of the answer.
    await conn.read(buffer);
    const startMs = performance.now();
    while (performance.now() - startMs < 3 * (SHORT.answerTimeoutMs ?? 0)) {
      tell("a");
      assert.ok(await conn.read(buffer) !== null);
    }
    // More than the system keeps for who does not read.
    const size = 32 << 20;
    tell("b".repeat(size));
    await over.promise;
    assert.ok((await readAll(conn)).length < size);
  }, { app, limits: SHORT });
});
