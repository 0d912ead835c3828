// A certificate and its private key, read from files in PEM and looked at before they are used.

import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { whyUnreadable } from "./message_of.ts";

/** Larger files are no certificates, in bytes. */
const MAX_FILE_BYTES = 1024 * 1024;
const PEM = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** A certificate that can be used now. */
export interface Certificate {
  /** With those between it and its authority, in PEM. */
  readonly cert: string;
  /** In PEM. */
  readonly key: string;
  /** `CN=example.org` or what else it says of itself, on one line. */
  readonly subject: string;
  /** When it ends. */
  readonly validTo: Date;
}

/** Why a certificate cannot be used. */
export class CertificateFault extends Error {
  override name = "CertificateFault";
  constructor(
    /** The file that is wrong. */
    readonly file: "cert" | "key",
    /** Names the file and what would be right; holds nothing of the key. */
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/**
 * Reads and checks a certificate and its key: both in PEM, belonging together, valid today, and taken
 * by the library that will serve with them. Throws a {@link CertificateFault}.
 */
export function readCertificate(certPath: string, keyPath: string, now = new Date()): Certificate {
  const cert = readText("cert", certPath);
  const key = readText("key", keyPath);
  const [first, ...others] = cert.match(PEM) ?? [];
  if (first === undefined) {
    throw new CertificateFault(
      "cert",
      `"${certPath}": no certificate in it; it has to be in PEM (-----BEGIN CERTIFICATE-----)`,
    );
  }
  // The file begins with the server's own; those of authorities follow.
  const own = parse(certPath, first);
  for (const block of others) parse(certPath, block);
  const validFrom = new Date(own.validFrom);
  const validTo = new Date(own.validTo);
  if (validTo <= now) {
    throw new CertificateFault(
      "cert",
      `"${certPath}": the certificate expired on ${day(validTo)}; renew it`,
    );
  }
  if (validFrom > now) {
    throw new CertificateFault(
      "cert",
      `"${certPath}": the certificate is not valid before ${validFrom.toISOString()}, and this ` +
        `machine's clock says ${now.toISOString()}`,
    );
  }
  if (!isPair(own, publicKeyOf(keyPath, key))) {
    throw new CertificateFault(
      "key",
      `"${keyPath}": this is not the key of the certificate in "${certPath}"; renew both together`,
    );
  }
  tryOut(certPath, cert, key);
  const subject = own.subject?.trim().replaceAll("\n", ", ") || own.subjectAltName || "no name";
  return { cert, key, subject, validTo };
}

function readText(file: "cert" | "key", path: string): string {
  try {
    const { size, isFile, isDirectory } = Deno.statSync(path);
    if (isDirectory) throw new Error("a folder, not a file; name the file in it");
    // Reading a pipe would wait for whoever writes to it.
    if (!isFile) throw new Error("not a file; name a file");
    if (size > MAX_FILE_BYTES) throw new Error("larger than 1MiB; no certificate or key is");
    return Deno.readTextFileSync(path);
  } catch (error) {
    throw new CertificateFault(file, `"${path}": ${whyUnreadable(error)}`, { cause: error });
  }
}

function parse(path: string, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw new CertificateFault(
      "cert",
      `"${path}": the certificate in it cannot be read; is the file whole?`,
      { cause: error },
    );
  }
}

function publicKeyOf(path: string, pem: string): KeyObject {
  if (/ENCRYPTED/.test(pem)) {
    throw new CertificateFault(
      "key",
      `"${path}": the key is protected by a passphrase; store it without (openssl pkey)`,
    );
  }
  try {
    return createPublicKey(createPrivateKey(pem));
  } catch {
    // The cause may quote the file.
    throw new CertificateFault(
      "key",
      `"${path}": no private key can be read in it; it has to be in PEM ` +
        "(-----BEGIN PRIVATE KEY-----), and whole",
    );
  }
}

/** Whether they belong together, or this runtime cannot tell and {@link tryOut} has to. */
function isPair(cert: X509Certificate, publicKey: KeyObject): boolean {
  try {
    return spki(cert.publicKey).equals(spki(publicKey));
  } catch {
    return true;
  }
}

function spki(key: KeyObject): Buffer {
  return Buffer.from(key.export({ type: "spki", format: "der" }));
}

/** Has the library that serves with it take it, on a port of its own. */
function tryOut(path: string, cert: string, key: string): void {
  try {
    Deno.listenTls({ hostname: "127.0.0.1", port: 0, cert, key }).close();
  } catch (error) {
    throw new CertificateFault(
      "cert",
      `"${path}": cannot be served with: ${whyUnreadable(error)}`,
      {
        cause: error,
      },
    );
  }
}

function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}
