// TLS for the sockets of clients, so that each can be closed at any time and the certificate renewed.
//
// A TLS socket of Deno (2.4 to 2.9) that is closed before its handshake is done stays open until the
// client goes, so whoever sends half of one would hold a file for ever; its listener keeps one
// certificate, and wants the socket before a proxy's header was read. So the door of the clients is a
// plain one, and what comes through it is carried to a TLS listener on loopback and back: at the price of
// three files and two more copies a connection, the socket of the client is always ours to close.

import { spawn } from "../core/spawn.ts";
import { closeQuietly, type Socket } from "./socket.ts";

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
/** How long a connection may be there before we know that we have made it, ms, and how many of them. */
const EARLY_MS = 1000;
const MAX_EARLY = 4096;
/** For the last bytes to a client, after the server has closed its side, ms. */
const LAST_BYTES_MS = 1000;
/** Before the next try where nothing can be accepted, ms. */
const RETRY_MS = 100;

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

  /** The clear side of a client's socket, once TLS is agreed on; closing it closes `outer`, too. */
  terminate(outer: Socket): Promise<Socket> {
    return this.#current.terminate(outer);
  }

  close(): void {
    this.#current.close();
  }
}

/** A TLS listener on loopback, for one certificate. */
class Inside {
  #listener: Deno.TlsListener;
  /** Who waits for the connection from a port: nobody else's is taken. */
  #expected = new Map<number, (conn: Deno.TlsConn) => void>();
  /** Connections that nobody waits for: those of strangers, or of which we do not know yet. */
  #early = new Map<number, Deno.TlsConn>();
  #isClosing = false;

  constructor(pair: TlsPair, tcpBacklog: number) {
    this.#listener = Deno.listenTls({ hostname: LOOPBACK, port: 0, tcpBacklog, ...pair });
    spawn("serv.tls_accept", () => this.#accept());
  }

  async terminate(outer: Socket): Promise<Socket> {
    const inner = await Deno.connect({ hostname: LOOPBACK, port: this.#listener.addr.port });
    inner.setNoDelay(true);
    const { port } = inner.localAddr;
    const expected = Promise.withResolvers<Deno.TlsConn>();
    this.#expect(port, expected.resolve);
    spawn("serv.tls", async () => {
      await join(outer, inner);
      this.#forget(port);
      expected.reject(new Error("the connection ended before TLS was agreed on"));
    });
    const clear = await expected.promise;
    try {
      await clear.handshake();
    } catch (error) {
      closeAll(clear, inner, outer);
      throw error;
    }
    return new ClearSocket(clear, inner, outer);
  }

  #expect(port: number, take: (conn: Deno.TlsConn) => void): void {
    const early = this.#early.get(port);
    if (early !== undefined) {
      this.#early.delete(port);
      take(early);
    } else {
      this.#expected.set(port, take);
    }
  }

  #forget(port: number): void {
    this.#expected.delete(port);
    if (this.#isClosing && this.#expected.size === 0) closeAll(this.#listener);
  }

  async #accept(): Promise<void> {
    for (;;) {
      try {
        const conn = await this.#listener.accept();
        const { port } = conn.remoteAddr;
        const take = this.#expected.get(port);
        if (take === undefined) {
          this.#keepEarly(port, conn);
        } else {
          take(conn);
          this.#forget(port);
        }
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || this.#isDone) return;
        // No files are left: those who wait give up in time.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #keepEarly(port: number, conn: Deno.TlsConn): void {
    if (this.#early.size >= MAX_EARLY) return closeAll(conn);
    this.#early.set(port, conn);
    setTimeout(() => {
      if (this.#early.get(port) !== conn) return;
      this.#early.delete(port);
      closeAll(conn);
    }, EARLY_MS);
  }

  get #isDone(): boolean {
    return this.#isClosing && this.#expected.size === 0;
  }

  /** Takes those who are on their way, and ends. */
  close(): void {
    this.#isClosing = true;
    if (this.#isDone) closeAll(this.#listener);
  }
}

/** What the server reads and writes of a TLS connection. */
class ClearSocket implements Socket {
  #clear: Deno.TlsConn;
  #inner: Socket;
  #outer: Socket;
  #hasSaidAll = false;

  constructor(clear: Deno.TlsConn, inner: Socket, outer: Socket) {
    this.#clear = clear;
    this.#inner = inner;
    this.#outer = outer;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#clear.read(buffer);
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#clear.write(bytes);
  }

  async closeWrite(): Promise<void> {
    this.#hasSaidAll = true;
    await this.#clear.closeWrite();
  }

  close(): void {
    closeQuietly(this.#clear);
    if (!this.#hasSaidAll) return closeAll(this.#inner, this.#outer);
    // What was said last may still be on its way to the client, and gets a moment.
    setTimeout(() => closeAll(this.#inner, this.#outer), LAST_BYTES_MS);
  }
}

/** Carries bytes both ways until both ends are done, or one has failed. Never rejects. */
async function join(outer: Socket, inner: Socket): Promise<void> {
  const close = () => closeAll(inner, outer);
  await Promise.all([carry(outer, inner).catch(close), carry(inner, outer).catch(close)]);
  close();
}

async function carry(from: Socket, to: Socket): Promise<void> {
  let size = FIRST_BYTES;
  for (;;) {
    const buffer = new Uint8Array(size);
    const count = await from.read(buffer);
    if (count === null) break;
    for (let at = 0; at < count;) at += await to.write(buffer.subarray(at, count));
    size = count === size
      ? Math.min(size * GROWTH, MAX_BYTES)
      : Math.min(Math.max(count, FIRST_BYTES), MAX_WAITING_BYTES);
  }
  await to.closeWrite();
}

function closeAll(...closables: { close(): void }[]): void {
  for (const closable of closables) closeQuietly(closable);
}
