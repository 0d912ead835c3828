// TLS for the sockets of clients, so that each can be closed at any time and the certificate renewed.
//
// A TLS socket of Deno (2.4 to 2.9) that is closed before its handshake is done stays open until the
// client goes, so whoever sends half of one would hold a file for ever; its listener keeps one
// certificate, and wants the socket before a proxy's header was read. So the door of the clients is a
// plain one, and what comes through it is carried to a TLS listener on loopback and back: at the price of
// three files and two more copies a connection, the socket of the client is always ours to close.

import { spawn } from "../core/spawn.ts";
import { closeQuietly } from "../core/close_quietly.ts";
import { type Socket } from "./socket.ts";

/** Certificate and key in PEM. */
export interface TlsPair {
  readonly cert: string;
  readonly key: string;
}

/** Files that a connection holds. */
export const FILES_OVER_TLS = 3;

const LOOPBACK = "127.0.0.1";
/** Buffers grow while they are filled, as those of connections do. */
const FIRST_BYTES = 512;
const MAX_WAITING_BYTES = 4 * 1024;
const MAX_BYTES = 64 * 1024;
const GROWTH = 4;
/** Once the server has said its last: how long the client may take nothing of it, and may take to close, ms. */
const LAST_BYTES_MS = 10_000;
const LINGER_MS = 1000;
/** How long a connection may be there before we know that we have made it, ms, and how many of them. */
const EARLY_MS = 1000;
const MAX_EARLY = 4096;
/** How long the other end of a connection on loopback may take to come, ms. */
const EXPECT_MS = 10_000;
/** Before the next try where nothing can be accepted, ms. */
const RETRY_MS = 10;

/** Speaks TLS with clients. */
export class TlsTerminator {
  #backlog: number;
  #current: Inside;

  /** Throws what `Deno.listenTls` does. `tcpBacklog` bounds the handshakes that begin at one time. */
  constructor(pair: TlsPair, tcpBacklog: number) {
    this.#backlog = tcpBacklog;
    this.#current = new Inside(pair, tcpBacklog);
  }

  /** Those who come from now on meet another certificate. */
  renew(pair: TlsPair): void {
    const before = this.#current;
    this.#current = new Inside(pair, this.#backlog);
    before.close();
  }

  /** The way of one client through TLS; see {@link TlsWay.open}. */
  wayOf(outer: Socket): TlsWay {
    return new TlsWay(outer, this.#current);
  }

  close(): void {
    this.#current.close();
  }
}

/** A client's socket, the connection on loopback, and its TLS end: what the server reads and writes. */
export class TlsWay implements Socket {
  /** Resolves when all files that it held are given back. */
  readonly closed: Promise<void>;

  #outer: Socket;
  #inside: Inside;
  #inner: Deno.TcpConn | null = null;
  #clear: Deno.TlsConn | null = null;
  #isAgreed = false;
  #isClosed = false;
  /** The server has said its last, and has let go: what is under way still gets to the client. */
  #hasSaidAll = false;
  #carriedMs = 0;
  #onClosed!: () => void;

  constructor(outer: Socket, inside: Inside) {
    this.#outer = outer;
    this.#inside = inside;
    this.closed = new Promise((resolve) => this.#onClosed = resolve);
  }

  /** Resolves once TLS is agreed on; rejects where it is not, with everything closed. */
  async open(): Promise<void> {
    try {
      const { inner, clear } = await this.#inside.connect();
      this.#inner = inner;
      if (this.#isClosed) closeQuietly(inner);
      spawn("serv.tls", () => this.#carryAll(inner));
      this.#clear = await clear;
      await this.#clear.handshake();
      this.#isAgreed = true;
    } catch (error) {
      if (this.#inner === null) this.#onClosed();
      this.#closeAll();
      throw error;
    }
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    try {
      return await this.#end().read(buffer);
    } catch (error) {
      // Many clients close without a word of TLS about it. A request that was cut off is not served.
      if (error instanceof Deno.errors.UnexpectedEof) return null;
      throw error;
    }
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#end().write(bytes);
  }

  async closeWrite(): Promise<void> {
    this.#hasSaidAll = true;
    await this.#end().closeWrite();
  }

  #end(): Deno.TlsConn {
    if (this.#clear === null) throw new Deno.errors.NotConnected("TLS is not agreed on");
    return this.#clear;
  }

  close(): void {
    if (this.#clear !== null) closeQuietly(this.#clear);
    if (!this.#hasSaidAll || !this.#isAgreed) this.#closeAll();
    else this.#watchLastBytes();
  }

  #closeAll(): void {
    this.#isClosed = true;
    if (this.#clear !== null) closeQuietly(this.#clear);
    if (this.#inner !== null) closeQuietly(this.#inner);
    closeQuietly(this.#outer);
  }

  #watchLastBytes(): void {
    if (this.#isClosed) return;
    this.#carriedMs = performance.now();
    const timer = setInterval(() => {
      if (this.#isClosed) clearInterval(timer);
      else if (performance.now() - this.#carriedMs > LAST_BYTES_MS) this.#closeAll();
    }, LINGER_MS);
    this.closed.then(() => clearInterval(timer));
  }

  /** Carries bytes both ways until both ends are done, or one has failed. Never rejects. */
  async #carryAll(inner: Deno.TcpConn): Promise<void> {
    let linger: ReturnType<typeof setTimeout> | undefined;
    const close = () => this.#closeAll();
    const onCarried = () => this.#carriedMs = performance.now();
    await Promise.all([
      carry(this.#outer, inner).then(() => {
        // Nobody is there to agree with.
        if (!this.#isAgreed) close();
      }, close),
      carry(inner, this.#outer, onCarried).then(() => linger = setTimeout(close, LINGER_MS), close),
    ]);
    clearTimeout(linger);
    close();
    this.#onClosed();
  }
}

/** A TLS listener on loopback, for one certificate. */
class Inside {
  #listener: Deno.TlsListener;
  /** Who waits for the connection from a port: nobody else's is taken. */
  #expected = new Map<number, (conn: Deno.TlsConn) => void>();
  /** Connections that nobody waits for: those of strangers, or of which we do not know yet. */
  #early = new Map<number, Deno.TlsConn>();
  /** Connections that are being made. */
  #dialing = 0;
  #isClosing = false;

  constructor(pair: TlsPair, tcpBacklog: number) {
    this.#listener = Deno.listenTls({ hostname: LOOPBACK, port: 0, tcpBacklog, ...pair });
    spawn("serv.tls_accept", () => this.#accept());
  }

  /** A connection to it, and its other end when that has come. */
  async connect(): Promise<{ inner: Deno.TcpConn; clear: Promise<Deno.TlsConn> }> {
    this.#dialing++;
    try {
      const inner = await Deno.connect({ hostname: LOOPBACK, port: this.#listener.addr.port });
      inner.setNoDelay(true);
      const { port } = inner.localAddr;
      const early = this.#early.get(port);
      if (early !== undefined) {
        this.#early.delete(port);
        return { inner, clear: Promise.resolve(early) };
      }
      return { inner, clear: this.#expect(port) };
    } finally {
      this.#dialing--;
      this.#closeIfDone();
    }
  }

  #expect(port: number): Promise<Deno.TlsConn> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#expected.delete(port);
        this.#closeIfDone();
        reject(new Error("the way over loopback did not come about"));
      }, EXPECT_MS);
      this.#expected.set(port, (conn) => {
        clearTimeout(timer);
        this.#expected.delete(port);
        resolve(conn);
        this.#closeIfDone();
      });
    });
  }

  async #accept(): Promise<void> {
    for (;;) {
      try {
        const conn = await this.#listener.accept();
        const { hostname, port } = conn.remoteAddr;
        const take = this.#expected.get(port);
        // We connect from there ourselves; whoever else has the same port comes from elsewhere.
        if (hostname !== LOOPBACK) closeQuietly(conn);
        else if (take === undefined) this.#keepEarly(port, conn);
        else take(conn);
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || this.#isDone) return;
        // No files are left: those who wait give up in time.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #keepEarly(port: number, conn: Deno.TlsConn): void {
    const before = this.#early.get(port);
    if (before !== undefined) closeQuietly(before);
    if (this.#early.size >= MAX_EARLY) return closeQuietly(conn);
    this.#early.set(port, conn);
    setTimeout(() => {
      if (this.#early.get(port) !== conn) return;
      this.#early.delete(port);
      closeQuietly(conn);
    }, EARLY_MS);
  }

  get #isDone(): boolean {
    return this.#isClosing && this.#dialing === 0 && this.#expected.size === 0;
  }

  #closeIfDone(): void {
    if (this.#isDone) closeQuietly(this.#listener);
  }

  /** Takes those who are on their way, and ends. */
  close(): void {
    this.#isClosing = true;
    this.#closeIfDone();
  }
}

async function carry(from: Socket, to: Socket, onCarried: () => void = () => {}): Promise<void> {
  let size = FIRST_BYTES;
  for (;;) {
    const buffer = new Uint8Array(size);
    const count = await from.read(buffer);
    if (count === null) break;
    for (let at = 0; at < count;) {
      at += await to.write(buffer.subarray(at, count));
      onCarried();
    }
    size = count === size
      ? Math.min(size * GROWTH, MAX_BYTES)
      : Math.min(Math.max(count, FIRST_BYTES), MAX_WAITING_BYTES);
  }
  await to.closeWrite();
}
