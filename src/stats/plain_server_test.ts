// The stats door of old runtimes on real sockets: what it answers, what it refuses, how it ends.

import assert from "node:assert/strict";
import { Hono } from "hono";
import { statsDeps } from "../../tests/stats_deps.ts";
import { createStatsApp } from "./app.ts";
import { startPlainServer } from "./plain_server.ts";

const LIMITS = {
  headersTimeoutMs: 10_000,
  answerTimeoutMs: 10_000,
  maxHeaderBytes: 16 * 1024,
  maxConnections: 64,
  closeGraceMs: 500,
};

type Server = ReturnType<typeof startPlainServer>;

async function withServer(
  fn: (server: Server) => Promise<void>,
  app: { fetch(request: Request): Response | Promise<Response> } = createStatsApp(
    statsDeps({ conf: () => ({}) }),
  ),
  limits: Partial<typeof LIMITS> = {},
): Promise<void> {
  const options = { hostname: "127.0.0.1", port: 0, limits: { ...LIMITS, ...limits } };
  const server = startPlainServer({ ...options, app: { fetch: (request) => app.fetch(request) } });
  try {
    await fn(server);
  } finally {
    await server.close();
  }
}

async function connect(server: Server): Promise<Deno.TcpConn> {
  return await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
}

/** Sends `text`, and reads until the server closes. */
async function exchange(server: Server, text: string): Promise<string> {
  using conn = await connect(server);
  await conn.write(new TextEncoder().encode(text)).catch(() => {});
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of conn.readable) chunks.push(chunk);
  } catch {
    // A reset; what came before it counts.
  }
  return await new Blob(chunks as BlobPart[]).text();
}

const END = "Host: localhost\r\n\r\n";

Deno.test("plain stats server: answers, refuses, and is well after all that", async () => {
  await withServer(async (server) => {
    for (
      const [request, status] of [
        [`GET /s/ping HTTP/1.1\r\n${END}`, 200],
        [`GET / HTTP/1.1\r\n${END}`, 200],
        [`GET /nothing HTTP/1.1\r\n${END}`, 404],
        [`GET /% HTTP/1.1\r\n${END}`, 404],
        [`GET // HTTP/1.1\r\n${END}`, 404],
        [`GET /../../etc/passwd HTTP/1.1\r\n${END}`, 404],
        [`GET http://localhost/s/ping HTTP/1.1\r\n${END}`, 200],
        [`GET http://evil.io/s/ping HTTP/1.1\r\n${END}`, 403],
        [`GET http://[/s/ping HTTP/1.1\r\n${END}`, 400],
        ["GET /s/ping HTTP/1.1\r\nHost: evil.io\r\n\r\n", 403],
        ["GET /s/ping HTTP/1.1\r\nHost: localhost\r\nHost: evil.io\r\n\r\n", 400],
        ["GET /s/ping HTTP/1.1\r\nHost: a b\r\n\r\n", 400],
        ["GET /s/ping HTTP/1.1\r\n\r\n", 400],
        ["GET /s/ping HTTP/1.0\r\nHost: localhost\r\n\r\n", 200],
        ["GET /s/ping HTTP/1.0\r\n\r\n", 200],
        ["GET /s/ping HTTP/1.1\r\nHost : localhost\r\n\r\n", 400],
        ["GET /s/ping HTTP/1.1\r\nHost: localhost\r\n folded: 1\r\n\r\n", 400],
        ["GET /s/ping HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n", 400],
        [`OPTIONS * HTTP/1.1\r\n${END}`, 204],
        ["GET /s/ping HTTP/1.1\r\nHost: localhost:\r\n\r\n", 200],
        ["GET /s/ping HTTP/1.1\r\nHost: :\r\n\r\n", 400],
        [`GET /${"x".repeat(40_000)} HTTP/1.1\r\n${END}`, 431],
        [`POST /s/ping HTTP/1.1\r\nContent-Length: 3\r\n${END}abc`, 405],
        [`POST /s/ping HTTP/1.1\r\nContent-Length: abc\r\n${END}`, 400],
        [
          `POST /s/ping HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n${END}abc`,
          400,
        ],
        [`BREW /s/ping HTTP/1.1\r\n${END}`, 501],
        [`PROPFIND /s/ping HTTP/1.1\r\n${END}`, 405],
        [`TRACE /s/ping HTTP/1.1\r\n${END}`, 405],
        ["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405],
        ["sub channel1\r\n", 400],
        ["\x16\x03\x01\x02\x00\x01\x00", 400],
        [`GET /s/ping HTTP/1.1\r\n${END}`, 200],
      ] as const
    ) {
      const answer = await exchange(server, request);
      const what = JSON.stringify(request.slice(0, 60));
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), what);
      const [head, body] = answer.split("\r\n\r\n");
      assert.match(head, /\r\nconnection: close/i, what);
      if (status === 405) assert.match(head, /\r\nallow: GET, HEAD, OPTIONS(\r\n|$)/i, what);
      if (status === 204) assert.doesNotMatch(head, /content-length/i);
      else assert.match(head, new RegExp(`\r\ncontent-length: ${body.length}(\r\n|$)`, "i"), what);
    }
    const head = await exchange(server, `HEAD /s/ping HTTP/1.1\r\n${END}`);
    assert.match(head, /^HTTP\/1\.1 200 [\s\S]*\r\ncontent-length: 16\r\n[\s\S]*\r\n\r\n$/);
  });
});

Deno.test("plain stats server: half a request, and an answer that is not read, end at the deadline", async () => {
  const app = new Hono();
  app.get("/", (c) => c.text("x".repeat(50_000_000)));
  await withServer(
    async (server) => {
      for (const text of ["", "GET / HTTP/1.1\r\nHost: loc"]) {
        assert.equal(await exchange(server, text), "");
      }
      using conn = await connect(server);
      await conn.write(new TextEncoder().encode(`GET / HTTP/1.1\r\n${END}`));
      const buffer = new Uint8Array(64 * 1024);
      await conn.read(buffer);
      // Nothing is read until the server has given up; then less than everything is left.
      await exchange(server, "");
      await exchange(server, "");
      let length = 0;
      for (;;) {
        const count = await conn.read(buffer).catch(() => null);
        if (count === null) break;
        length += count;
      }
      assert.ok(length < 50_000_000, `${length}`);
    },
    app,
    { headersTimeoutMs: 200, answerTimeoutMs: 200 },
  );
});

Deno.test("plain stats server: at the bound whoever waits longest goes", async () => {
  await withServer(
    async (server) => {
      using first = await connect(server);
      using _second = await connect(server);
      assert.match(await exchange(server, `GET /s/ping HTTP/1.1\r\n${END}`), /^HTTP\/1\.1 200 /);
      assert.equal(await first.read(new Uint8Array(1)).catch(() => null), null);
    },
    undefined,
    { maxConnections: 2 },
  );
});

Deno.test("plain stats server: a stream is sent as it comes, and ends with its client or the server", async () => {
  let cancelled = Promise.withResolvers<void>();
  const app = new Hono();
  app.get("/", (c) => {
    c.header("Content-Type", "text/event-stream");
    let timer: ReturnType<typeof setInterval>;
    return c.body(
      new ReadableStream({
        start(controller) {
          timer = setInterval(
            () => controller.enqueue(new TextEncoder().encode("data: 1\n\n")),
            10,
          );
        },
        cancel() {
          clearInterval(timer);
          cancelled.resolve();
        },
      }),
    );
  });
  const untilData = async (conn: Deno.TcpConn): Promise<void> => {
    await conn.write(new TextEncoder().encode(`GET / HTTP/1.1\r\n${END}`));
    const buffer = new Uint8Array(1000);
    let text = "";
    while (!text.includes("data: 1")) {
      text += new TextDecoder().decode(buffer.subarray(0, await conn.read(buffer) ?? 0));
    }
  };
  await withServer(
    async (server) => {
      {
        using conn = await connect(server);
        await untilData(conn);
      }
      await cancelled.promise;
      cancelled = Promise.withResolvers<void>();
      using conn = await connect(server);
      await untilData(conn);
      await server.close();
      await cancelled.promise;
    },
    app,
    { answerTimeoutMs: 100, closeGraceMs: 50 },
  );
});

Deno.test("plain stats server: what is made for a client that leaves is given up", async () => {
  const began = Promise.withResolvers<AbortSignal>();
  const app = {
    fetch: async ({ signal }: Request) => {
      began.resolve(signal);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      return new Response("given up");
    },
  };
  await withServer(async (server) => {
    using conn = await connect(server);
    await conn.write(new TextEncoder().encode(`GET / HTTP/1.1\r\n${END}`));
    assert.equal((await began.promise).aborted, false);
    // A side that is closed could be all that is gone: it is answered.
    await conn.closeWrite();
    const buffer = new Uint8Array(1000);
    const count = await conn.read(buffer);
    assert.match(
      new TextDecoder().decode(buffer.subarray(0, count ?? 0)),
      /^HTTP\/1\.1 200 OK\r\n/,
    );
  }, app);
});
