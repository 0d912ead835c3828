// What strangers, scanners and broken clients send, one after the other to one server: it answers or
// closes, keeps its memory, and a client that pings beside them all is always answered.

import assert from "node:assert/strict";
import { LoadChild, type PingReport } from "./load_child.ts";
import { bytesOf, connectMany, LineClient } from "./load_client.ts";
import { LoadServer, within } from "./load_server.ts";

const MiB = 2 ** 20;
/** How long the bystander's ping may take on a noisy machine of two cores, ms. */
const PATIENCE_MS = 500;
/** What the whole run may add to resident memory at any moment; some of its parts send 1 GiB. */
const MAX_GROWTH_BYTES = 150 * MiB;
const DEADLINE_MS = 30_000;

/** Deno 2.4 closes no socket that a write waits for, and the log says so. */
const HOLDS_FILES =
  /Deno 2\.4\.\d+ is old: .*a client that stops reading holds its file until it leaves/;

const IAC = 0xff;
const SB = 0xfa;
const SE = 0xf0;

/** Random bytes, the same in each run (mulberry32). */
function randomBytes(seed: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    bytes[i] = (mixed ^ (mixed >>> 14)) & 0xff;
  }
  return bytes;
}

function concat(...parts: (string | readonly number[] | Uint8Array)[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [
    ...(typeof part === "string" ? bytesOf(part) : part),
  ]));
}

/** Sends `piece` again and again until `total` bytes are sent. */
async function sendOver(client: LineClient, piece: Uint8Array, total: number): Promise<void> {
  for (let sent = 0; sent < total; sent += piece.length) await client.send(piece);
}

/** Sends while it reads every line up to (and without) the first `PONG`. */
async function linesToPong(client: LineClient, sending: Promise<void>): Promise<string[]> {
  const lines: string[] = [];
  const reading = (async () => {
    for (let line = await client.line(); line !== "PONG"; line = await client.line()) {
      if (line === null) throw new Error(`closed behind: ${lines.slice(-3).join("\n")}`);
      lines.push(line);
    }
  })();
  await within(DEADLINE_MS, "PONG", Promise.all([sending, reading]));
  return lines;
}

function assertAllErrors(lines: readonly string[], codes: RegExp): void {
  for (const line of lines) assert.match(line, codes);
}

Deno.test("what strangers send disturbs nobody", async (t) => {
  await using server = await LoadServer.start({ config: { write_timeout: "2s" } });
  const connect = () => LineClient.connect(server.port);
  await using bystander = await LoadChild.start("ping", `${server.port}`);
  using listener = await connect();
  assert.equal(await listener.ask("sub evil"), "SUBSCRIBED evil");
  const startBytes = server.rss();
  server.clearPeak();

  await t.step("random bytes", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      using client = await connect();
      const bytes = randomBytes(seed, 500_000);
      const sending = (async () => {
        for (let at = 0; at < bytes.length;) {
          const end = at + 1 + (bytes[at] << (seed * 2));
          await client.send(bytes.subarray(at, end));
          at = end;
        }
        // Whatever telnet negotiation they began, this ends it.
        await client.send(concat([0, IAC, SE], "\nping\n"));
      })();
      const lines = await linesToPong(client, sending);
      assert.ok(lines.length > 1000);
      assertAllErrors(lines, /^ERROR [a-z-]+ ./);
    }
  });

  await t.step("a line of 1 GB", async () => {
    using client = await connect();
    const sending = (async () => {
      await sendOver(client, new Uint8Array(MiB).fill(0x61), 1_000_000_000);
      await client.send("\nping\n");
    })();
    const lines = await linesToPong(client, sending);
    assert.equal(lines.length, 1);
    assertAllErrors(lines, /^ERROR line-too-long /);
  });

  await t.step("NULs", async () => {
    using client = await connect();
    await client.send("\0\0\0\n\0\r\0\n");
    assert.equal(await client.ask("ping\0\0"), "PONG");
    assert.equal(await client.ask("ping\r\0"), "PONG");
    assert.match(await client.ask("\0ping") ?? "", /^ERROR unknown-command /);
    assert.match(await client.ask("sub a\0b") ?? "", /^ERROR bad-argument /);
    assert.equal(await client.ask("sub n"), "SUBSCRIBED n");
    const lines = [await client.ask("pub n a\0b"), await client.line()].sort();
    assert.match(lines[0] ?? "", /^MESSAGE n \d{16} a\0b$/);
    assert.match(lines[1] ?? "", /^PUBLISHED \d{16}$/);
    await client.send(new Uint8Array(3 * MiB));
    assert.match(await client.line() ?? "", /^ERROR line-too-long /);
    assert.equal(await client.ask("\nping"), "PONG");
  });

  await t.step("what is not UTF-8", async () => {
    using client = await connect();
    const wrong = [[0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0x80], [
      0xe2,
      0x82,
    ]];
    for (const bytes of wrong) {
      for (const [before, after] of [["", ""], ["é", ""], ["", "é"]]) {
        await client.send(concat(`pub evil ${before}`, bytes, `${after}\n`));
        assert.match(await client.line() ?? "", /^ERROR bad-message [ -~]+$/);
      }
      await client.send(concat("pub ev", bytes, "il x\n", "sub ev", bytes, "il\n", bytes, "\n"));
      assert.match(await client.line() ?? "", /^ERROR bad-argument [ -~]+$/);
      assert.match(await client.line() ?? "", /^ERROR bad-argument [ -~]+$/);
      assert.match(await client.line() ?? "", /^ERROR unknown-command /);
    }
    assert.equal(await client.ask("his evil 0"), "HISTORY evil []");
  });

  await t.step("10,000 requests in one write, the replies read afterwards", async () => {
    using client = await connect();
    const kinds: ((i: number) => [string, RegExp])[] = [
      () => ["ping", /^PONG$/],
      (i) => [`sub p${i}`, new RegExp(`^SUBSCRIBED p${i}$`)],
      (i) => [`pub q${i} x`, /^PUBLISHED \d{16}$/],
      (i) => [`nothing${i}`, new RegExp(`^ERROR unknown-command .*"nothing${i}"`)],
      (i) => [`his q${i - 2} 0`, new RegExp(`^HISTORY q${i - 2} \\[{.*}\\]$`)],
      (i) => [`unsub p${i - 4}`, new RegExp(`^UNSUBSCRIBED p${i - 4}$`)],
      (i) => [`unsub p${i}`, new RegExp(`^NOT SUBSCRIBED p${i}$`)],
      () => ["pub q", /^ERROR missing-argument /],
    ];
    const requests = Array.from({ length: 10_000 }, (_, i) => kinds[i % kinds.length](i));
    await client.send(requests.map(([line]) => `${line}\n`).join(""));
    for (const [line, reply] of requests) {
      assert.match(await client.line() ?? "closed", reply, line);
    }
    assert.equal(await client.ask("ping"), "PONG");
  });

  await t.step("10,000 publishes and quit in one write", async () => {
    const text = bytesOf("pub z message\n".repeat(10_000) + "quit\n");
    for (let round = 0; round < 20; round++) {
      using client = await connect();
      await client.send(text);
      const lines = await within(DEADLINE_MS, "BYE and the end", client.rest());
      assert.equal(lines.length, 10_001, `round ${round}: ${lines.at(-1)}`);
      assert.equal(lines.pop(), "BYE");
      let last = 0;
      for (const line of lines) {
        assert.match(line, /^PUBLISHED \d{16}$/);
        const ts = Number(line.slice(10));
        assert.ok(ts > last);
        last = ts;
      }
    }
  });

  await t.step("4 M pings whose replies nobody reads", async () => {
    using client = await connect();
    const before = await server.stats();
    const pings = bytesOf("ping\n".repeat(100_000));
    const startMs = performance.now();
    const sending = sendOver(client, pings, 40 * pings.length);
    if (HOLDS_FILES.test(server.log())) {
      await server.statsWhen("slow_consumers", before.slow_consumers + 1, DEADLINE_MS);
      client.close();
    }
    await assert.rejects(
      within(DEADLINE_MS, "being cut off", sending),
      (error) =>
        // Closed by ourselves.
        error instanceof Deno.errors.Interrupted ||
        error instanceof Deno.errors.BrokenPipe ||
        error instanceof Deno.errors.ConnectionReset,
    );
    const after = await server.stats();
    assert.equal(after.slow_consumers, before.slow_consumers + 1);
    // It was slowed down first, and cut off only when nothing moved for so long.
    const ms = performance.now() - startMs;
    assert.ok(ms > 1800, `it was cut off after ${ms} ms`);
    const read = after.bytes_in - before.bytes_in;
    assert.ok(read < 20 * pings.length, `${read} bytes were read from it`);
  });

  await t.step("byte by byte", async () => {
    using client = await connect();
    assert.equal(await client.ask("sub slow"), "SUBSCRIBED slow");
    const bytes = bytesOf("pub slow é\r\nping\r\n");
    for (let i = 0; i < bytes.length; i++) {
      await client.send(bytes.subarray(i, i + 1));
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    const lines = [await client.line(), await client.line(), await client.line()];
    assert.match(lines.find((line) => line?.startsWith("MESSAGE ")) ?? "", / é$/);
    assert.equal(lines[2], "PONG");
  });

  await t.step("unfinished requests on 500 connections", async () => {
    const { connections } = await server.stats();
    const clients = await connectMany(server.port, 500);
    await Promise.all(clients.map((client, i) => {
      const full = `pub evil ${"x".repeat(i * 100)}`;
      return client.send(i % 3 === 0 ? full : i % 3 === 1 ? [..."pub evi"].join("") : "é");
    }));
    await server.statsWhen("connections", connections + clients.length);
    for (const client of clients) client.close();
    await server.statsWhen("connections", connections);
  });

  await t.step("300 resets in the middle of deliveries", async () => {
    const { connections } = await server.stats();
    const clients = await connectMany(server.port, 300);
    await Promise.all(clients.map((client) => client.ask("sub reset")));
    using publisher = await connect();
    const message = `pub reset ${"x".repeat(32_000)}\n`;
    for (let round = 0; round < 30; round++) {
      await publisher.send(message);
      assert.match(await publisher.line() ?? "closed", /^PUBLISHED /);
      // What they have not read makes this a reset.
      for (let i = 0; i < 10; i++) clients[round * 10 + i].close();
    }
    publisher.close();
    await server.statsWhen("connections", connections);
  });

  await t.step("telnet negotiation where it hurts", async () => {
    using client = await connect();
    for (
      const before of [
        [IAC, 0xfd, 0x0a],
        [IAC, IAC],
        [IAC, SB, 1, IAC, IAC, 2, IAC, SE],
        [IAC, SB, 0x0a, 0x0a, IAC, SE],
      ]
    ) {
      await client.send(concat(before, "ping\n"));
      assert.equal(await client.line(), "PONG");
      await client.send(concat("pi", before, "ng", before, "\n"));
      assert.equal(await client.line(), "PONG");
    }
    for (
      const parts of [[[IAC], [0xfd], [3, 0x70], bytesOf("ing\n")], [[0x70, IAC], [
        0xf1,
        0x69,
      ], bytesOf("ng\n")]]
    ) {
      for (const part of parts) {
        await client.send(Uint8Array.from(part));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      assert.equal(await client.line(), "PONG");
    }
  });

  await t.step("a subnegotiation of 300 MB without end", async () => {
    using client = await connect();
    const sending = (async () => {
      await client.send(Uint8Array.of(IAC, SB));
      await sendOver(client, new Uint8Array(MiB).fill(1), 300_000_000);
      await client.send("\nping\n");
    })();
    const lines = await linesToPong(client, sending);
    assert.equal(lines.length, 1);
    assertAllErrors(lines, /^ERROR line-too-long /);
  });

  for (
    const [name, piece, total] of [
      ["IAC IAC", [IAC, IAC], 20_000_000],
      ["IAC DO", [IAC, 0xfd, 3], 20_000_000],
      ["IAC SB", [IAC, SB], 20_000_000],
      ["IAC SB SE", [IAC, SB, IAC, SE], 20_000_000],
      ["IAC and a letter", [IAC, 0x41], 4_000_000],
      ["IAC LF", [IAC, 0x0a], 1_000_000],
      ["IAC SB at each line", [...Array(5000).fill(1), 0x0a].toSpliced(0, 0, IAC, SB), 20_000_000],
    ] as const
  ) {
    await t.step(`a storm of ${name}`, async () => {
      using client = await connect();
      const copies = Math.ceil(100_000 / piece.length);
      const part = new Uint8Array(Array.from({ length: copies }, () => piece).flat());
      const sending = (async () => {
        await sendOver(client, part, total);
        await client.send(concat([0, IAC, SE], "\nping\n"));
      })();
      assertAllErrors(
        await linesToPong(client, sending),
        /^ERROR (line-too-long|unknown-command) /,
      );
    });
  }

  await t.step("HTTP", async () => {
    const body = "\r\n\r\npub evil x\npub evil y\n";
    for (
      const head of [
        "POST / HTTP/1.1\r\nHost: localhost",
        "GET /pub/evil/x HTTP/1.0",
        "OPTIONS * HTTP/1.1\r\nX: y",
        "get / http/1.1",
        "PRI * HTTP/2.0",
        "host: localhost",
        `POST /${"x".repeat(100_000)} HTTP/1.1\r\nHost: localhost`,
      ]
    ) {
      using client = await connect();
      await client.send(head + body);
      const lines = await within(DEADLINE_MS, `${head} to be closed`, client.rest());
      assertAllErrors(lines, /^ERROR (unknown-command|line-too-long) /);
      assert.ok(lines.length <= 2, lines.join("\n"));
    }
  });

  await t.step("SSH and TLS", async () => {
    using client = await connect();
    const kex = concat([0, 0, 5, 0xdc, 4, 20], randomBytes(99, 1400));
    const lines = await linesToPong(
      client,
      client.send(concat("SSH-2.0-OpenSSH_9.2p1\r\n", kex, [0, IAC, SE], "\nping\n")),
    );
    assertAllErrors(lines, /^ERROR (unknown-command|bad-argument) /);
    using tls = await LineClient.connect(server.port);
    await assert.rejects(async () => {
      const conn = await Deno.startTls(tls.conn, { hostname: "localhost" });
      try {
        await conn.handshake();
      } finally {
        conn.close();
      }
    });
  });

  await t.step("afterwards", async () => {
    // The bystander and the listener.
    await server.statsWhen("connections", 2);
    const { subscriptions, published } = await server.stats();
    assert.equal(subscriptions, 1);
    assert.ok(published > 0);
    assert.equal(await listener.ask("ping"), "PONG", "it must not have got a message");
    const grown = server.peakRss() - startBytes;
    assert.ok(grown < MAX_GROWTH_BYTES, `resident memory grew by ${grown} bytes`);
    const { worstMs, count } = await bystander.report<PingReport>();
    assert.ok(count > 100 && worstMs < PATIENCE_MS, `of ${count} pings one took ${worstMs} ms`);
    assert.deepEqual(server.complaints().filter((line) => / (ERROR|FATAL) /.test(line)), []);
    assert.ok(server.complaints().length <= 5, server.complaints().join("\n"));
  });
});

Deno.test("a client that floods, and reads its replies, keeps nobody else waiting", async (t) => {
  await using server = await LoadServer.start();
  using publisher = await LineClient.connect(server.port);
  for (let i = 0; i < 20; i++) await publisher.ask(`pub kept ${i}`);
  for (const request of ["ping", "", "nonsense", "sub kept", "pub c x", "his kept 0", "help"]) {
    await t.step(`with ${request === "" ? "empty lines" : request}`, async () => {
      await using bystander = await LoadChild.start("ping", `${server.port}`);
      using client = await LineClient.connect(server.port);
      let isOver = false;
      const reading = (async () => {
        const buffer = new Uint8Array(256 * 1024);
        while (await client.conn.read(buffer) !== null);
      })().catch((error) => assert.ok(isOver, error));
      const piece = bytesOf(`${request}\n`.repeat(Math.ceil(200_000 / (request.length + 1))));
      const untilMs = performance.now() + 700;
      while (performance.now() < untilMs) await client.send(piece);
      const { worstMs } = await bystander.report<PingReport>();
      isOver = true;
      client.close();
      await reading;
      assert.ok(worstMs < PATIENCE_MS, `a ping took ${worstMs} ms`);
    });
  }
});
