// Connects to another node's door.

import { closeQuietly } from "../core/close_quietly.ts";
import { splitHostPort } from "../core/host_port.ts";
import { HANDSHAKE_MS, type Wire } from "./handshake.ts";

/** TLS for links. */
export interface WireTls {
  accept(conn: Deno.TcpConn): Promise<Wire>;
  dial(hostname: string, port: number): Promise<Wire>;
}

/** Connects to `addr` (`host:port`), by TLS where it is given. Rejects with an Error, in time. */
export function dial(addr: string, tls: WireTls | null): Promise<Wire> {
  const { hostname, port } = splitHostPort(addr);
  const dialing = tls === null ? dialPlain(hostname, port) : tls.dial(hostname, port);
  return withinMs(dialing, HANDSHAKE_MS);
}

async function dialPlain(hostname: string, port: number): Promise<Deno.TcpConn> {
  const conn = await Deno.connect({ hostname, port });
  conn.setNoDelay(true);
  return conn;
}

/** Rejects when it takes longer; what comes then is closed. */
function withinMs(connecting: Promise<Wire>, ms: number): Promise<Wire> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      connecting.then(closeQuietly, () => {});
      reject(new Error(`no connection within ${ms / 1000} s`));
    }, ms);
  });
  return Promise.race([connecting, late]).finally(() => clearTimeout(timer));
}
