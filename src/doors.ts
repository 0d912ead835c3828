// The doors of clients: opens what the configuration names, and closes it again when another part fails.

import type { Config, ListenAddr } from "./config/schema.ts";
import { AddressList } from "./core/address_list.ts";
import { type Certificate, CertificateFault, readCertificate } from "./core/certificate.ts";
import { messageOf } from "./core/message_of.ts";
import { spawn } from "./core/spawn.ts";
import type { Server } from "./serv/server.ts";
import { TlsTerminator } from "./serv/tls_terminator.ts";
import { StartError } from "./start_error.ts";

/** A door whose clients speak TLS. */
interface TlsDoor {
  readonly listener: Deno.TcpListener;
  readonly terminator: TlsTerminator;
}

/** The open doors. */
export class Doors {
  private constructor(
    readonly plain: Deno.TcpListener,
    readonly tls: TlsDoor | null,
    /** What the TLS door serves with; null where there is none. */
    public certificate: Certificate | null,
  ) {}

  /** Opens them. Throws a {@link StartError} with nothing left open. */
  static open(config: Config): Doors {
    const certificate = readTls(config);
    const plain = listenTcp("tcp_listen_addr", config.tcp_listen_addr, config.tcp_backlog);
    try {
      return new Doors(plain, openTls(config, certificate), certificate);
    } catch (error) {
      plain.close();
      throw error;
    }
  }

  /** Begins to accept. */
  serve(server: Server): void {
    spawn("serv.accept", () => server.serve(this.plain));
    const { tls } = this;
    if (tls !== null) spawn("serv.accept", () => server.serve(tls.listener, tls.terminator));
  }

  /** Whether it is not the one that the TLS door serves with. */
  isAnother(certificate: Certificate): boolean {
    const { certificate: present } = this;
    return certificate.cert !== present?.cert || certificate.key !== present.key;
  }

  /** Serves those who come from now on with another certificate. */
  renew(certificate: Certificate): void {
    this.certificate = certificate;
    this.tls?.terminator.renew(certificate);
  }

  /** Closes what the server does not: it closes the listeners that it serves. */
  close(): void {
    this.tls?.terminator.close();
  }

  /** Closes everything, before anything has been served. */
  abandon(): void {
    this.plain.close();
    this.tls?.listener.close();
    this.close();
  }
}

/** Whether there is a door that needs a certificate. */
export function needsCertificate(config: Config): boolean {
  return config.tls_listen_addr !== null;
}

/**
 * The certificate that the configuration names; null where no door needs one. Throws a
 * {@link StartError} that names the key and says what is wrong.
 */
export function readTls(config: Config): Certificate | null {
  if (!needsCertificate(config)) return null;
  try {
    return readCertificate(config.tls_cert, config.tls_key);
  } catch (error) {
    if (!(error instanceof CertificateFault)) throw error;
    throw new StartError(`tls_${error.file}: ${error.message}`, { cause: error });
  }
}

function openTls(config: Config, certificate: Certificate | null): TlsDoor | null {
  const { tls_listen_addr: addr, tcp_backlog: tcpBacklog } = config;
  if (addr === null || certificate === null) return null;
  const listener = listenTcp("tls_listen_addr", addr, tcpBacklog);
  return { listener, terminator: new TlsTerminator(certificate, tcpBacklog) };
}

/** Listens. Throws a {@link StartError} that names the key. */
export function listenTcp(key: string, addr: ListenAddr, tcpBacklog: number): Deno.TcpListener {
  try {
    return Deno.listen({ hostname: addr.hostname, port: addr.port, tcpBacklog });
  } catch (error) {
    if (addr.hostname !== "::" || error instanceof Deno.errors.AddrInUse) {
      throw listenError(key, addr, error);
    }
    // A machine without IPv6: ":2222" then means every IPv4 interface.
    return listenTcp(key, { ...addr, hostname: "0.0.0.0" }, tcpBacklog);
  }
}

/** Says which key's address cannot be listened on, and why. */
export function listenError(key: string, addr: ListenAddr, cause: unknown): StartError {
  const reason = cause instanceof Deno.errors.AddrInUse
    ? "the address is already in use; stop what listens there, or choose another"
    : messageOf(cause);
  return new StartError(`${key}: cannot listen on "${addr.text}": ${reason}`, { cause });
}

/** The proxies that are believed; null where no door expects their header. */
export function trustedProxies(config: Config): AddressList | null {
  return config.proxy_protocol ? new AddressList(config.trusted_proxies) : null;
}
