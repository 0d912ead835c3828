// Links over TLS, where both nodes show a certificate of one authority.
//
// `Deno.listenTls` cannot ask who connects for a certificate; node:tls can, and works over a stream
// of ours, so that the TCP connection stays ours to close in the middle of a handshake, too. It needs
// help with two things (2.9.6). Over such a stream it reads on without a bound when nobody takes what
// it has decrypted: CipherStream holds it back. And not every certificate that it lets pass is a good
// one: its client believes one of version 1 (or signed with one of version 1) that merely names the
// authority as its issuer, and its server resumes the session of a certificate that has expired
// since. So both sides look at the other's certificate once more.

import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { Duplex } from "node:stream";
import { connect, createServer, type TLSSocket } from "node:tls";
import { type Certificate, CertificateFault, readCertificate } from "../core/certificate.ts";
import { whyUnreadable } from "../core/message_of.ts";
import { writeAll } from "../core/write_all.ts";
import { HANDSHAKE_MS, type Wire } from "./handshake.ts";

/** Where a node's certificate and key and the authority of all nodes are, in PEM. */
export interface LinkTlsPaths {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** Why the files cannot be used for links. */
export class LinkTlsFault extends Error {
  override name = "LinkTlsFault";
  constructor(
    /** The file that is wrong. */
    readonly file: keyof LinkTlsPaths,
    /** Names the file and what would be right; holds nothing of the key. */
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Why a connection to a node did not come about. */
export class LinkTlsError extends Error {
  override name = "LinkTlsError";
}

/** Larger files are no certificates, in bytes. */
const MAX_FILE_BYTES = 1024 * 1024;
const PEM = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;
const MIN_READ_BYTES = 16 * 1024;
const MAX_READ_BYTES = 256 * 1024;
/** One write takes no more: what it takes is encrypted at once. */
const MAX_WRITE_BYTES = 256 * 1024;
/**
 * The first byte from the acceptor. In TLS 1.3 a dialer is done before anybody has looked at its
 * certificate; this says that it was found good.
 */
const READY = 1;
/** In DER: the extension "extended key usage", and the usages that a node needs. */
const EXTENDED_KEY_USAGE = Buffer.from("0603551d25", "hex");
const SERVER_AUTH = Buffer.from("06082b06010505070301", "hex");
const CLIENT_AUTH = Buffer.from("06082b06010505070302", "hex");

/**
 * A node's certificate, and how it knows the others by theirs.
 *
 * The names in a certificate are not looked at: **whoever has a certificate of the authority is a
 * node**. So the authority has to be one that signs for the nodes of this cluster and for nobody
 * else, never a public one or that of a whole company. Certificates have to be of version 3 (X.509),
 * for clients and for servers where they say what they are for, and be signed by a certificate in the
 * file of the authority itself: one that stands between belongs into that file, too.
 */
export class LinkTls {
  #own: Certificate;
  #authorities: readonly X509Certificate[];
  #ca: string[];

  private constructor(own: Certificate, authorities: readonly X509Certificate[], ca: string[]) {
    this.#own = own;
    this.#authorities = authorities;
    this.#ca = ca;
  }

  /** Whether the runtime's node:tls serves a connection that it has not accepted; that of Deno 2.4 does not. */
  static isPossible(): boolean {
    return createServer().listenerCount("connection") > 0;
  }

  /**
   * Reads the three files, and finds out whether other nodes will accept them. Throws a
   * {@link LinkTlsFault}.
   */
  static load({ cert, key, ca }: LinkTlsPaths, now = new Date()): LinkTls {
    let own: Certificate;
    try {
      own = readCertificate(cert, key, now);
    } catch (error) {
      if (!(error instanceof CertificateFault)) throw error;
      throw new LinkTlsFault(error.file, error.message, { cause: error });
    }
    const pems = readAuthorities(ca);
    const authorities = pems.map((pem) => parseAuthority(ca, pem, now));
    const certificate = new X509Certificate(own.cert);
    const fault = faultOf(certificate, authorities, now) ?? usageFaultOf(certificate);
    if (fault !== null) {
      throw new LinkTlsFault("cert", `"${cert}": the certificate ${fault} (authority: "${ca}")`);
    }
    return new LinkTls(own, authorities, pems);
  }

  /** What this node's certificate says of itself, on one line. */
  get subject(): string {
    return this.#own.subject;
  }

  /** When this node's certificate ends: from then on no link comes up; those that are up stay. */
  get validTo(): Date {
    return this.#own.validTo;
  }

  /**
   * Answers a node that has connected. Rejects with a {@link LinkTlsError} where it shows no
   * certificate or a wrong one, does not speak TLS, goes, or is not done in {@link HANDSHAKE_MS};
   * `tcp` is closed then. Closing `tcp` ends it at any time.
   */
  async accept(tcp: Deno.TcpConn): Promise<Wire> {
    const cipher = new CipherStream(tcp);
    try {
      const wire = await new Promise<TlsWire>((resolve, reject) => {
        cipher.onClosed = (error) => reject(handshakeError(error));
        // Its timer (120 s) would keep what a connection held long after that has ended.
        createServer({ ...this.#common(), requestCert: true, handshakeTimeout: HANDSHAKE_MS })
          .on("secureConnection", (socket) => this.#admit(socket, cipher, resolve, reject))
          .on("tlsClientError", (error, socket) => {
            socket?.on("error", () => {});
            reject(handshakeError(error, socket?.authorizationError));
          })
          .emit("connection", cipher);
      });
      await wire.write(Uint8Array.of(READY));
      return wire;
    } catch (error) {
      cipher.destroy();
      throw error instanceof LinkTlsError ? error : handshakeError(error as Error);
    }
  }

  /**
   * Connects to a node. Rejects with a {@link LinkTlsError} as {@link accept} does, also where the
   * other side does not want this node's certificate or is not done in `timeoutMs`; with what
   * `Deno.connect` rejects with; or with the reason of `signal`, which is not heeded afterwards.
   */
  async dial(
    hostname: string,
    port: number,
    { signal, timeoutMs = HANDSHAKE_MS }: { signal?: AbortSignal; timeoutMs?: number } = {},
  ): Promise<Wire> {
    const tooLate = new AbortController();
    const timer = setTimeout(
      () => tooLate.abort(new LinkTlsError(`no TLS connection within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    const stop = signal === undefined ? tooLate.signal : AbortSignal.any([signal, tooLate.signal]);
    try {
      return await this.#greet(await Deno.connect({ hostname, port, signal: stop }), stop);
    } catch (error) {
      throw stop.aborted ? stop.reason : error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #greet(tcp: Deno.TcpConn, stop: AbortSignal): Promise<Wire> {
    const cipher = new CipherStream(tcp);
    const onStop = () => cipher.destroy(stop.reason);
    stop.addEventListener("abort", onStop);
    try {
      stop.throwIfAborted();
      const wire = await new Promise<TlsWire>((resolve, reject) => {
        cipher.onClosed = (error) => reject(handshakeError(error));
        const socket = connect({
          ...this.#common(),
          socket: cipher,
          checkServerIdentity: () => undefined,
        });
        socket.on("error", (error) => reject(handshakeError(error)));
        socket.once("secureConnect", () => this.#admit(socket, cipher, resolve, reject));
      });
      const first = new Uint8Array(1);
      if (await wire.read(first) === null) throw new LinkTlsError(HUNG_UP);
      if (first[0] !== READY) throw new LinkTlsError("it speaks TLS, but is no node");
      return wire;
    } catch (error) {
      cipher.destroy();
      throw error instanceof LinkTlsError ? error : handshakeError(error as Error);
    } finally {
      stop.removeEventListener("abort", onStop);
    }
  }

  #common() {
    return {
      cert: this.#own.cert,
      key: this.#own.key,
      ca: this.#ca,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
    } as const;
  }

  /** TLS is agreed on: whether it is a node that we have agreed with. */
  #admit(
    socket: TLSSocket,
    cipher: CipherStream,
    resolve: (wire: TlsWire) => void,
    reject: (reason: LinkTlsError) => void,
  ): void {
    // Whatever comes of it, an error without a listener would end the process.
    const wire = new TlsWire(socket, cipher);
    const fault = this.#faultOfPeer(socket);
    if (fault === null) resolve(wire);
    else reject(new LinkTlsError(`the other side's certificate ${fault}`));
  }

  #faultOfPeer(socket: TLSSocket): string | null {
    // A runtime that has not asked for it, or has not looked, says so here.
    const raw = socket.getPeerCertificate()?.raw;
    if (raw === undefined || !socket.authorized) return "has not been verified";
    try {
      return faultOf(new X509Certificate(raw), this.#authorities, new Date());
    } catch {
      return "cannot be read";
    }
  }
}

const HUNG_UP =
  "it closed the connection in the TLS handshake; it may not want this node's certificate, " +
  "its log says why";

function handshakeError(error: Error | null, authorizationError?: unknown): LinkTlsError {
  if (error === null) return new LinkTlsError(HUNG_UP);
  if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) {
    return new LinkTlsError("no TLS connection until this side closed it", { cause: error });
  }
  const what = typeof authorizationError === "string"
    ? `the other side's certificate is refused (${authorizationError}); it has to be valid, of ` +
      "the authority in s2s_tls_ca, and for clients and servers"
    : `no TLS connection: ${error.message}`;
  return new LinkTlsError(what, { cause: error });
}

// ---- certificates ------------------------------------------------------------------------------

function readAuthorities(path: string): string[] {
  let text: string;
  try {
    const { size, isFile } = Deno.statSync(path);
    // Reading a pipe would wait for whoever writes to it.
    if (!isFile) throw new Error("not a file; name a file");
    if (size > MAX_FILE_BYTES) throw new Error("larger than 1MiB; no certificate is");
    text = Deno.readTextFileSync(path);
  } catch (error) {
    throw new LinkTlsFault("ca", `"${path}": ${whyUnreadable(error)}`, { cause: error });
  }
  const pems = text.match(PEM);
  if (pems === null) {
    throw new LinkTlsFault(
      "ca",
      `"${path}": no certificate in it; it has to be in PEM (-----BEGIN CERTIFICATE-----)`,
    );
  }
  return [...pems];
}

function parseAuthority(path: string, pem: string, now: Date): X509Certificate {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch (error) {
    throw new LinkTlsFault(
      "ca",
      `"${path}": a certificate in it cannot be read; is the file whole?`,
      { cause: error },
    );
  }
  const fault = dateFaultOf(certificate, now);
  if (fault !== null) throw new LinkTlsFault("ca", `"${path}": a certificate in it ${fault}`);
  return certificate;
}

/** Why this is not a node's certificate, as the end of a sentence; null where it is one. */
function faultOf(
  certificate: X509Certificate,
  authorities: readonly X509Certificate[],
  now: Date,
): string | null {
  const issuer = authorities.find((authority) => isSignedBy(certificate, authority));
  if (issuer === undefined) {
    return "is not signed by a certificate in the file of the authority, or in a way that cannot " +
      "be checked here (RSA with PKCS #1, ECDSA with P-256 or P-384, and Ed25519 can be)";
  }
  const fault = dateFaultOf(certificate, now);
  if (fault !== null) return fault;
  return dateFaultOf(issuer, now) === null
    ? null
    : "is signed by an authority that is not valid now";
}

function isSignedBy(certificate: X509Certificate, authority: X509Certificate): boolean {
  try {
    return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
  } catch {
    // A kind of key or signature that the runtime does not know.
    return false;
  }
}

function dateFaultOf(certificate: X509Certificate, now: Date): string | null {
  const { validFrom, validTo } = certificate;
  // The other way round, a date that cannot be read would be a good one.
  if (!(new Date(validTo) > now)) return `is not valid after ${validTo}; renew it`;
  if (!(new Date(validFrom) <= now)) {
    return `is not valid before ${validFrom}, and this machine's clock says ${now.toISOString()}`;
  }
  return null;
}

/** Other nodes refuse it where it is for servers only. */
function usageFaultOf({ raw }: X509Certificate): string | null {
  if (!raw.includes(EXTENDED_KEY_USAGE)) return null;
  return raw.includes(SERVER_AUTH) && raw.includes(CLIENT_AUTH)
    ? null
    : "has an extendedKeyUsage without serverAuth or clientAuth; a node is a server and a client";
}

// ---- the connection ----------------------------------------------------------------------------

/** The encrypted side: a TCP connection as a stream of Node's. */
class CipherStream extends Duplex {
  /** Told once; null where nothing has failed. */
  onClosed: (error: Error | null) => void = () => {};
  /** Whether TLS is not agreed on yet; the runtime does not tell of a connection that ends before. */
  isGreeting = true;
  /** Whether what is read now will not have to wait long, decrypted, for its reader. */
  hasRoom: () => boolean = () => true;

  #tcp: Deno.TcpConn;
  #readBytes = MIN_READ_BYTES;
  #isHeld = false;

  constructor(tcp: Deno.TcpConn) {
    super();
    this.#tcp = tcp;
    // The same is told through `onClosed`; without a listener it would end the process.
    this.on("error", () => {});
    try {
      tcp.setNoDelay(true);
    } catch {
      // It is closed already; reading will say so.
    }
  }

  override _read(): void {
    this.#isHeld = true;
    this.release();
  }

  /** Reads on where that has been put off and there is room now. */
  release(): void {
    if (!this.#isHeld || !this.hasRoom()) return;
    this.#isHeld = false;
    const buffer = Buffer.allocUnsafeSlow(this.#readBytes);
    this.#tcp.read(buffer).then((count) => {
      if (count === this.#readBytes) this.#readBytes = Math.min(MAX_READ_BYTES, count * 4);
      else this.#readBytes = MIN_READ_BYTES;
      this.push(count === null ? null : buffer.subarray(0, count));
      if (count === null && this.isGreeting) this.destroy();
    }).catch((error) => this.destroy(error));
  }

  override _write(bytes: Buffer, _: string, callback: (error?: Error | null) => void): void {
    writeAll(this.#tcp, bytes).then(() => callback(), callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    try {
      this.#tcp.close();
    } catch {
      // Whoever has given it to us has closed it.
    }
    callback(error);
    // Where it was TLS that closed this, it says why in the next turn; that is the better reason.
    setImmediate(() => setImmediate(() => this.onClosed(error)));
  }
}

function gone(): Error {
  return new Deno.errors.ConnectionReset("the connection is gone");
}

/** The clear side. */
class TlsWire implements Wire {
  #socket: TLSSocket;
  #cipher: CipherStream;
  /** Of what has been decrypted, what the reader had no room for. */
  #rest: Uint8Array | null = null;
  #isEnded = false;
  #failure: Error | null = null;
  #wakeReader: (() => void) | null = null;
  #rejectWriter: ((reason: Error) => void) | null = null;

  constructor(socket: TLSSocket, cipher: CipherStream) {
    this.#socket = socket;
    this.#cipher = cipher;
    cipher.isGreeting = false;
    cipher.hasRoom = () => socket.readableLength < socket.readableHighWaterMark;
    cipher.onClosed = (error) => this.#fail(error ?? gone());
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(gone()));
    socket.on("readable", () => this.#wake());
    socket.on("end", () => {
      this.#isEnded = true;
      this.#wake();
    });
  }

  #wake(): void {
    const wake = this.#wakeReader;
    this.#wakeReader = null;
    wake?.();
  }

  #fail(reason: Error): void {
    this.#failure ??= reason;
    this.#wake();
    const reject = this.#rejectWriter;
    this.#rejectWriter = null;
    reject?.(this.#failure);
  }

  /** One at a time. */
  async read(into: Uint8Array): Promise<number | null> {
    while (true) {
      const bytes = this.#rest ?? this.#socket.read() as Uint8Array | null;
      if (bytes !== null) {
        const count = Math.min(bytes.length, into.length);
        into.set(bytes.subarray(0, count));
        this.#rest = count === bytes.length ? null : bytes.subarray(count);
        this.#cipher.release();
        return count;
      }
      if (this.#isEnded) return null;
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => this.#wakeReader = resolve);
    }
  }

  /** One at a time. Resolves once the bytes are on their way: closing behind it loses none of them. */
  async write(bytes: Uint8Array): Promise<number> {
    if (this.#failure !== null) throw this.#failure;
    const part = bytes.subarray(0, MAX_WRITE_BYTES);
    await new Promise<void>((resolve, reject) => {
      this.#rejectWriter = reject;
      this.#socket.write(part, (error) => error ? reject(error) : resolve());
    });
    this.#rejectWriter = null;
    return part.length;
  }

  /** Idempotent. */
  close(): void {
    this.#rest = null;
    this.#fail(new Deno.errors.BadResource("the connection was closed"));
    this.#socket.destroy();
    this.#cipher.destroy();
  }
}
