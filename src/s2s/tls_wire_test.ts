// Links over TLS, against real peers: nodes, wrong certificates of every kind, and who speaks no TLS.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import { Authority, opensslRequirement } from "../../tests/certificates.ts";
import { writeAll } from "../core/write_all.ts";
import { answer, greet, type Wire } from "./handshake.ts";
import { LinkTls, LinkTlsError, LinkTlsFault } from "./tls_wire.ts";

const { ignore, reason } = opensslRequirement;
const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name: `links over TLS: ${name}${reason}`, ignore, fn });

const HOST = "127.0.0.1";
const V3 = "subjectAltName=DNS:node";
/** How long a write may make no progress before it is taken to wait for the reader, ms. */
const STALLED_MS = 300;

interface Files {
  readonly cert: string;
  readonly key: string;
}

async function loadNode(authority: Authority, name: string): Promise<LinkTls> {
  return LinkTls.load({ ...await authority.issue(name), ca: authority.path("ca.crt") });
}

/** Two nodes' ends of a connection. */
async function joined(
  dialer: LinkTls,
  acceptor: LinkTls,
): Promise<{ dialed: Wire; accepted: Wire }> {
  const listener = Deno.listen({ hostname: HOST, port: 0 });
  const stop = new AbortController();
  try {
    const [dialed, accepted] = await Promise.all([
      dialer.dial(HOST, listener.addr.port, { signal: stop.signal }),
      listener.accept().then((tcp) => acceptor.accept(tcp)),
    ]);
    return { dialed, accepted };
  } finally {
    // Too late to stop anything.
    stop.abort();
    listener.close();
  }
}

/** Both ends of a connection without TLS. */
async function connected(): Promise<{ near: Deno.TcpConn; far: Deno.TcpConn }> {
  const listener = Deno.listen({ hostname: HOST, port: 0 });
  const [near, far] = await Promise.all([
    Deno.connect({ hostname: HOST, port: listener.addr.port }),
    listener.accept(),
  ]);
  listener.close();
  return { near, far };
}

async function readAll(wire: Wire, bytes: number): Promise<Uint8Array> {
  const all = new Uint8Array(bytes);
  for (let at = 0; at < bytes;) {
    const count = await wire.read(all.subarray(at, at + 10_000));
    assert.notEqual(count, null, `the end after ${at} of ${bytes} bytes`);
    at += count ?? 0;
  }
  return all;
}

function someBytes(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => (i * 7 + (i >> 8)) % 251);
}

function pemOf(path: string): string {
  return Deno.readTextFileSync(path);
}

async function rejects(promise: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof LinkTlsError, `no LinkTlsError: ${error}`);
    assert.match(error.message, pattern);
    return true;
  });
}

test("two nodes shake hands, and what they write arrives", async () => {
  await using authority = await Authority.create();
  const { dialed, accepted } = await joined(
    await loadNode(authority, "a"),
    await loadNode(authority, "b"),
  );
  const self = (id: string) => ({
    cluster: "pushd",
    id,
    incarnation: 1,
    s2sAddr: "127.0.0.1:1",
    clientAddr: "127.0.0.1:2",
    software: "test",
    capabilities: [],
  });
  const [a, b] = await Promise.all([
    greet(dialed, { self: self("a"), secret: "s" }, "", () => {}),
    answer(accepted, { self: self("b"), secret: "s" }, () => {}),
  ]);
  assert.equal(a.hello.id, "b");
  assert.equal(b.hello.id, "a");
  const bytes = someBytes(1_500_000);
  for (const [from, to] of [[dialed, accepted], [accepted, dialed]]) {
    const [got] = await Promise.all([readAll(to, bytes.length), writeAll(from, bytes)]);
    assert.deepEqual(got, bytes);
  }
  dialed.close();
  accepted.close();
});

test("what was written before a close arrives, and then the end", async () => {
  await using authority = await Authority.create();
  const a = await loadNode(authority, "a");
  const b = await loadNode(authority, "b");
  for (const dialerWrites of [true, false]) {
    const { dialed, accepted } = await joined(a, b);
    const [from, to] = dialerWrites ? [dialed, accepted] : [accepted, dialed];
    const bytes = someBytes(200_000);
    await writeAll(from, bytes);
    from.close();
    assert.deepEqual(await readAll(to, bytes.length), bytes);
    assert.equal(await to.read(new Uint8Array(1)), null);
    to.close();
  }
});

test("closing ends the reads and writes that are under way", async () => {
  await using authority = await Authority.create();
  const { dialed, accepted } = await joined(
    await loadNode(authority, "a"),
    await loadNode(authority, "b"),
  );
  const reading = assert.rejects(dialed.read(new Uint8Array(1)), Deno.errors.BadResource);
  const writing = assert.rejects(async () => {
    while (true) await dialed.write(new Uint8Array(256 * 1024));
  }, Deno.errors.BadResource);
  // It closes while the writer waits for a reader that does not come.
  await accepted.read(new Uint8Array(1));
  dialed.close();
  dialed.close();
  await Promise.all([reading, writing]);
  await assert.rejects(dialed.read(new Uint8Array(1)), Deno.errors.BadResource);
  await assert.rejects(dialed.write(new Uint8Array(1)), Deno.errors.BadResource);
  accepted.close();
});

test("a writer waits for a reader that does not read", async () => {
  await using authority = await Authority.create();
  const a = await loadNode(authority, "a");
  const b = await loadNode(authority, "b");
  for (const dialerWrites of [true, false]) {
    const { dialed, accepted } = await joined(a, b);
    const [from, to] = dialerWrites ? [dialed, accepted] : [accepted, dialed];
    const block = someBytes(256 * 1024);
    const limit = 64 * 2 ** 20;
    let taken = 0;
    let writing: Promise<void> | undefined;
    while (taken < limit) {
      const before = taken;
      writing = from.write(block).then((count) => {
        taken += count;
      });
      let timer: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([
        writing,
        new Promise((resolve) => timer = setTimeout(resolve, STALLED_MS)),
      ]);
      clearTimeout(timer);
      if (taken === before) break;
    }
    // What the kernel keeps of a connection, and little more.
    assert.ok(taken < 24 * 2 ** 20, `${taken} bytes were taken and nobody reads`);
    await Promise.all([readAll(to, taken + block.length), writing]);
    dialed.close();
    accepted.close();
  }
});

test("who connects without a good certificate is refused, and gets nothing", async () => {
  await using authority = await Authority.create();
  // The other authority has the same name.
  await using other = await Authority.create();
  const node = await loadNode(authority, "node");
  const good = await authority.issue("good");
  const child = await authority.issue("child", 30, { by: "good" });
  const middle = await other.issue("middle", 30, { extensions: "" });
  const under = await other.issue("under", 30, { by: "middle" });
  const chain = (files: Files, ...more: string[]) => ({
    cert: [files.cert, ...more].map(pemOf).join(""),
    key: pemOf(files.key),
  });
  const cases: [string, { cert?: string; key?: string; maxVersion?: "TLSv1.2" }, RegExp][] = [
    ["none", {}, /no certificate/],
    ["of another authority", chain(await other.issue("x")), /UNABLE_TO_VERIFY|not signed/],
    ["expired", chain(await authority.issue("old", -1)), /CERT_HAS_EXPIRED/],
    [
      "another authority itself",
      chain({ cert: other.path("ca.crt"), key: other.path("ca.key") }),
      /./,
    ],
    ["signed by a node", chain(child, good.cert), /UNABLE_TO_VERIFY|not signed/],
    ["of version 1", chain(await other.issue("one", 30, { extensions: "" })), /UNABLE|not signed/],
    ["below version 1", chain(under, middle.cert), /UNABLE|not signed/],
    ["of an authority between", chain(...await between(authority)), /not signed/],
    ["good, but TLS 1.2", { ...chain(good), maxVersion: "TLSv1.2" }, /no TLS connection/],
  ];
  for (const [name, identity, pattern] of cases) {
    const listener = Deno.listen({ hostname: HOST, port: 0 });
    const stranger = connect({
      ...identity,
      host: HOST,
      port: listener.addr.port,
      rejectUnauthorized: false,
    });
    const got: unknown[] = [];
    stranger.on("data", (bytes) => got.push(bytes)).on("error", () => {});
    const gone = once(stranger, "close").catch(() => {});
    const tcp = await listener.accept();
    listener.close();
    try {
      await rejects(node.accept(tcp), pattern);
    } catch (error) {
      throw new Error(`a certificate ${name}`, { cause: error });
    } finally {
      stranger.end();
    }
    await gone;
    stranger.destroy();
    assert.deepEqual(got, [], name);
  }
});

/** A node's certificate that an authority below this one has signed, and that one's. */
async function between(authority: Authority): Promise<[Files, string]> {
  const { cert } = await authority.issue("middle", 30, { extensions: "basicConstraints=CA:TRUE" });
  return [await authority.issue("below", 30, { by: "middle" }), cert];
}

test("a dialer refuses who answers without a good certificate", async () => {
  await using authority = await Authority.create();
  await using other = await Authority.create();
  const node = await loadNode(authority, "node");
  const good = await authority.issue("good");
  const child = await authority.issue("child", 30, { by: "good" });
  const oldVersion1 = await authority.issue("old1", -1, { extensions: "" });
  const middle = await other.issue("middle", 30, { extensions: "" });
  const under = await other.issue("under", 30, { by: "middle" });
  const cases: [string, Files, string[], RegExp][] = [
    ["of another authority", await other.issue("x"), [], /certificate/],
    ["expired", await authority.issue("old", -1), [], /expired/],
    ["signed by a node", child, [good.cert], /certificate/],
    // What the runtime itself has let pass.
    ["of version 1", await other.issue("one", 30, { extensions: "" }), [], /not signed/],
    ["of version 1, expired", oldVersion1, [], /not valid after/],
    ["below version 1", under, [middle.cert], /not signed/],
    ["of an authority between", ...await between(authority).then(withMore), /not signed/],
  ];
  for (const [name, files, more, pattern] of cases) {
    await using impostor = await Impostor.start(files, more);
    await rejects(node.dial(HOST, impostor.port), pattern).catch((error) => {
      throw new Error(`a certificate ${name}`, { cause: error });
    });
  }
  // The impostor itself is not why.
  await using impostor = await Impostor.start(good, []);
  (await node.dial(HOST, impostor.port)).close();
});

function withMore([files, cert]: [Files, string]): [Files, string[]] {
  return [files, [cert]];
}

/** Speaks TLS with everybody, and says what a node says when it is content. */
class Impostor implements AsyncDisposable {
  #server: ReturnType<typeof createServer>;
  #sockets = new Set<TLSSocket>();

  private constructor({ cert, key }: Files, more: readonly string[]) {
    this.#server = createServer({ cert: [cert, ...more].map(pemOf).join(""), key: pemOf(key) });
    this.#server.on("secureConnection", (socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {}).write(Uint8Array.of(1));
    });
    this.#server.on("tlsClientError", (_, socket) => socket.on("error", () => {}).destroy());
  }

  static async start(files: Files, more: readonly string[]): Promise<Impostor> {
    const impostor = new Impostor(files, more);
    impostor.#server.listen(0, HOST);
    await once(impostor.#server, "listening");
    return impostor;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

test("a dialer learns that its certificate is not wanted", async () => {
  await using authority = await Authority.create();
  await using other = await Authority.create();
  // It knows both authorities; the other node knows its own only.
  await Deno.writeTextFile(
    other.path("both.crt"),
    `${await authority.pem()}${await other.pem()}`,
  );
  const dialer = LinkTls.load({ ...await other.issue("a"), ca: other.path("both.crt") });
  const acceptor = await loadNode(authority, "b");
  const listener = Deno.listen({ hostname: HOST, port: 0 });
  await Promise.all([
    rejects(dialer.dial(HOST, listener.addr.port), /may not want this node's certificate/),
    listener.accept().then((tcp) => rejects(acceptor.accept(tcp), /UNABLE_TO_VERIFY|not signed/)),
  ]);
  listener.close();
});

test("an authority that stands between belongs into the file of the authority", async () => {
  await using authority = await Authority.create();
  const [files, middle] = await between(authority);
  await Deno.writeTextFile(authority.path("both.crt"), `${await authority.pem()}${pemOf(middle)}`);
  const a = LinkTls.load({ ...files, ca: authority.path("both.crt") });
  const b = LinkTls.load({ ...await authority.issue("b"), ca: authority.path("both.crt") });
  for (const [dialer, acceptor] of [[a, b], [b, a]]) {
    const { dialed, accepted } = await joined(dialer, acceptor);
    dialed.close();
    accepted.close();
  }
});

test("who does not speak TLS is refused", async () => {
  await using authority = await Authority.create();
  const node = await loadNode(authority, "node");
  const garbage = [
    new TextEncoder().encode("sub > 90\r\nPING\r\n"),
    new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    Uint8Array.of(0, 0, 0, 40, 1, ...new TextEncoder().encode('{"cluster":"pushd","version":1}')),
    crypto.getRandomValues(new Uint8Array(60_000)),
    new Uint8Array(5),
  ];
  for (const bytes of garbage) {
    const { near, far } = await connected();
    const [wrote] = await Promise.allSettled([
      writeAll(near, bytes),
      assert.rejects(node.accept(far), LinkTlsError),
    ]);
    if (wrote.status === "rejected") assert.ok(wrote.reason instanceof Deno.errors.ConnectionReset);
    near.close();
  }
  for (const bytes of garbage) {
    const listener = Deno.listen({ hostname: HOST, port: 0 });
    const dialing = rejects(node.dial(HOST, listener.addr.port), /./);
    const tcp = await listener.accept();
    listener.close();
    await Promise.allSettled([writeAll(tcp, bytes)]);
    await dialing;
    tcp.close();
  }
});

test("a handshake that does not end is ended by closing", async () => {
  await using authority = await Authority.create();
  const node = await loadNode(authority, "node");
  // The beginning of a ClientHello that says it has 512 bytes.
  for (const bytes of [new Uint8Array(0), Uint8Array.of(22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3)]) {
    const { near, far } = await connected();
    await writeAll(near, bytes);
    const accepting = rejects(node.accept(far), /until this side closed it/);
    far.close();
    await accepting;
    near.close();
  }
  {
    const { near, far } = await connected();
    near.close();
    await rejects(node.accept(far), /./);
  }
  const listener = Deno.listen({ hostname: HOST, port: 0 });
  const { port } = listener.addr;
  await rejects(node.dial(HOST, port, { timeoutMs: 20 }), /within 0.02 s/);
  const stop = new AbortController();
  const stopped = new Error("the test stops it");
  const dialing = assert.rejects(node.dial(HOST, port, { signal: stop.signal }), stopped);
  await listener.accept().then((tcp) => tcp.close());
  const tcp = await listener.accept();
  stop.abort(stopped);
  await dialing;
  // The other side sees it go: nothing is left open here.
  while (await tcp.read(new Uint8Array(4096)) !== null);
  tcp.close();
  listener.close();
  await assert.rejects(node.dial(HOST, port), Deno.errors.ConnectionRefused);
});

test("bytes that were changed on the way are not delivered", async () => {
  await using authority = await Authority.create();
  const a = await loadNode(authority, "a");
  const b = await loadNode(authority, "b");
  const proxy = Deno.listen({ hostname: HOST, port: 0 });
  const { near, far } = await connected();
  let isChanging = false;
  const carry = async (from: Deno.Conn, to: Deno.Conn) => {
    const buffer = new Uint8Array(64 * 1024);
    for (let count; (count = await from.read(buffer)) !== null;) {
      if (isChanging) buffer[count - 1] ^= 1;
      await writeAll(to, buffer.subarray(0, count));
    }
  };
  const dialing = a.dial(HOST, proxy.addr.port);
  const middle = await proxy.accept();
  proxy.close();
  const carrying = Promise.allSettled([carry(middle, near), carry(near, middle)]);
  const [dialed, accepted] = await Promise.all([dialing, b.accept(far)]);
  await writeAll(dialed, Uint8Array.of(1));
  assert.deepEqual(await readAll(accepted, 1), Uint8Array.of(1));
  isChanging = true;
  await writeAll(dialed, Uint8Array.of(2));
  await assert.rejects(accepted.read(new Uint8Array(1)));
  dialed.close();
  accepted.close();
  middle.close();
  near.close();
  await carrying;
});

test("files that cannot be used are named, and why", async () => {
  await using authority = await Authority.create();
  await using other = await Authority.create();
  const ca = authority.path("ca.crt");
  const good = await authority.issue("good");
  const forServers = await authority.issue("server", 30, {
    extensions: "extendedKeyUsage=serverAuth",
  });
  const forBoth = await authority.issue("both", 30, {
    extensions: `${V3}\nextendedKeyUsage=serverAuth,clientAuth`,
  });
  const inDays = (days: number) => new Date(Date.now() + days * 86_400_000);
  await Deno.writeTextFile(authority.path("empty"), "");
  await Deno.writeTextFile(
    authority.path("half"),
    "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n",
  );
  const missing = authority.path("missing");
  const cases: [{ cert: string; key: string; ca: string }, string, RegExp, Date?][] = [
    [{ ...good, cert: missing, ca }, "cert", /missing": no such file/],
    [{ ...good, key: missing, ca }, "key", /missing": no such file/],
    [{ ...good, ca: missing }, "ca", /missing": no such file/],
    [{ ...good, ca: authority.folder }, "ca", /not a file/],
    [{ ...good, ca: authority.path("empty") }, "ca", /no certificate in it/],
    [{ ...good, ca: authority.path("half") }, "ca", /cannot be read/],
    [{ ...good, ca }, "ca", /not valid after/, inDays(10)],
    [{ ...good, ca }, "cert", /expired/, inDays(40)],
    [{ ...good, ca }, "cert", /not valid before/, inDays(-1)],
    [{ ...await other.issue("x"), ca }, "cert", /not signed by/],
    [{ ...await authority.issue("one", 30, { extensions: "" }), ca }, "cert", /one\.crt/],
    [{ ...forServers, ca }, "cert", /clientAuth/],
    [{ ...good, key: forBoth.key, ca }, "key", /not the key/],
  ];
  for (const [paths, file, pattern, now] of cases) {
    assert.throws(() => LinkTls.load(paths, now), (error) => {
      assert.ok(error instanceof LinkTlsFault, String(error));
      assert.equal(error.file, file, error.message);
      assert.match(error.message, pattern);
      return true;
    });
  }
  const { subject, validTo } = LinkTls.load({ ...forBoth, ca });
  assert.equal(subject, "CN=both");
  assert.ok(validTo > inDays(29) && validTo < inDays(31));
});
