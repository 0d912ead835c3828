import assert from "node:assert/strict";
import { writeAll } from "../core/write_all.ts";
import { FrameBuilder, FrameError, FrameType } from "./frame.ts";
import { answer, greet, type Wire } from "./handshake.ts";
import { createHello, helloFrame, type NodeIdentity, Refusal, type RefusalCode } from "./hello.ts";

function node(id: string, cluster = "pushd"): NodeIdentity {
  return {
    cluster,
    id,
    incarnation: id.length,
    s2sAddr: "127.0.0.1:1",
    clientAddr: "127.0.0.1:2",
    software: "test",
    capabilities: ["bloom"],
  };
}

async function pair(): Promise<[Deno.TcpConn, Deno.TcpConn]> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [dialer, acceptor] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    listener.accept(),
  ]);
  listener.close();
  return [dialer, acceptor];
}

/** Both ends' outcomes; each end is closed when it is done. */
async function meet(
  dial: (wire: Wire) => Promise<unknown>,
  accept: (wire: Wire) => Promise<unknown>,
): Promise<[PromiseSettledResult<unknown>, PromiseSettledResult<unknown>]> {
  const [dialer, acceptor] = await pair();
  const ended = async (conn: Deno.TcpConn, work: Promise<unknown>) => {
    try {
      return await work;
    } finally {
      await conn.closeWrite().catch(() => {});
    }
  };
  const results = await Promise.allSettled([
    ended(dialer, dial(dialer)),
    ended(acceptor, accept(acceptor)),
  ]);
  dialer.close();
  acceptor.close();
  return results;
}

function isRefusal(result: PromiseSettledResult<unknown>, code: RefusalCode): void {
  assert.equal(result.status, "rejected");
  const { reason } = result as PromiseRejectedResult;
  assert.ok(reason instanceof Refusal, String(reason));
  assert.equal(reason.code, code);
}

Deno.test("handshake: both sides learn who is there", async () => {
  const [a, b] = await meet(
    (wire) => greet(wire, { self: node("a"), secret: "s" }, "bb", () => {}),
    (wire) => answer(wire, { self: node("bb"), secret: "s" }, () => {}),
  );
  assert.equal(a.status, "fulfilled");
  assert.equal(b.status, "fulfilled");
});

Deno.test("handshake: refusals reach both sides, by name", async () => {
  const cases: [string, NodeIdentity, NodeIdentity, string, RefusalCode][] = [
    ["another secret", node("a"), node("bb"), "t", "proof"],
    ["another cluster", node("a", "x"), node("bb"), "s", "cluster"],
    ["the same node", node("a"), node("a"), "s", "self"],
    ["the same id", { ...node("a"), incarnation: 7 }, node("a"), "s", "node-id"],
  ];
  for (const [, dialer, acceptor, secret, code] of cases) {
    const [a, b] = await meet(
      (wire) => greet(wire, { self: dialer, secret: "s" }, "", () => {}),
      (wire) => answer(wire, { self: acceptor, secret }, () => {}),
    );
    isRefusal(a, code);
    isRefusal(b, code);
  }
});

Deno.test("handshake: who is meant for another node is refused", async () => {
  const [a, b] = await meet(
    (wire) => greet(wire, { self: node("a"), secret: "s" }, "ccc", () => {}),
    (wire) => answer(wire, { self: node("bb"), secret: "s" }, () => {}),
  );
  isRefusal(a, "address");
  isRefusal(b, "address");
});

Deno.test("handshake: a recorded dialer proves nothing", async () => {
  const sent: Uint8Array[] = [];
  await meet(
    (wire) => {
      const recording: Wire = {
        read: (into) => wire.read(into),
        write: (bytes) => {
          sent.push(bytes.slice());
          return wire.write(bytes);
        },
        close: () => wire.close(),
      };
      return greet(recording, { self: node("a"), secret: "s" }, "", () => {});
    },
    (wire) => answer(wire, { self: node("bb"), secret: "s" }, () => {}),
  );
  assert.equal(sent.length, 2, "hello and proof");
  const [, b] = await meet(
    async (wire) => {
      for (const bytes of sent) await writeAll(wire, bytes);
    },
    (wire) => answer(wire, { self: node("bb"), secret: "s" }, () => {}),
  );
  isRefusal(b, "proof");
});

Deno.test("handshake: one's own proof sent back proves nothing", async () => {
  const [a] = await meet(
    (wire) => greet(wire, { self: node("a"), secret: "s" }, "", () => {}),
    async (wire) => {
      // Whatever the dialer says, it gets back: first as a challenge of another node, then as it was.
      await wire.read(new Uint8Array(4096));
      await writeAll(wire, helloFrame(FrameType.challenge, createHello(node("bb"), "a")));
      const proof = new Uint8Array(37);
      await wire.read(proof);
      await writeAll(wire, new FrameBuilder(FrameType.welcome).bytes(proof.subarray(5)).finish());
    },
  );
  isRefusal(a, "proof");
});

Deno.test("handshake: a version that is not known is named", async () => {
  const [, b] = await meet(
    (wire) => {
      const hello = { ...createHello(node("a")), version: 99, min_version: 99 };
      return writeAll(wire, helloFrame(FrameType.hello, hello));
    },
    (wire) => answer(wire, { self: node("bb"), secret: "s" }, () => {}),
  );
  isRefusal(b, "version");
  assert.match(String((b as PromiseRejectedResult).reason), /99/);
});

Deno.test("handshake: what no node sends ends it at once", async () => {
  const nonsense = [
    "sub > 90\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01",
    "\0\0\0\0",
    "\xff\xff\xff\xff",
    "\x80\0\0\0",
  ];
  for (const text of nonsense) {
    const [, b] = await meet(
      (wire) => writeAll(wire, Uint8Array.from(text, (c) => c.charCodeAt(0))),
      (wire) => answer(wire, { self: node("bb"), secret: "s" }, () => {}),
    );
    assert.equal(b.status, "rejected");
    assert.ok((b as PromiseRejectedResult).reason instanceof FrameError, text);
  }
});
