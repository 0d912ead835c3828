// Connections that a proxy brings: its header says from whom.

import { MAX_PROXY_HEADER_BYTES, parseProxyHeader } from "../proto/proxy_header.ts";
import { PrefixedSocket, type Socket } from "./socket.ts";

/** Most headers fit, and what the client sent right behind them is not much. */
const FIRST_BYTES = 536;

/** What a proxy said. */
export interface Proxied {
  /** Reads on behind the header. */
  readonly socket: Socket;
  /** The client's address; undefined where the proxy speaks for itself, as in a health check. */
  readonly address: string | undefined;
}

/**
 * Reads the header that a proxy sends first. Rejects where there is none, or an unfinished one when the
 * connection ends; undefined where it ended before its first byte, as a health check may.
 */
export async function readProxyHeader(socket: Socket): Promise<Proxied | undefined> {
  let bytes = new Uint8Array(FIRST_BYTES);
  let length = 0;
  for (;;) {
    if (length === bytes.length) {
      // The parser refuses longer headers, so this ends.
      const larger = new Uint8Array(Math.min(bytes.length * 4, MAX_PROXY_HEADER_BYTES));
      larger.set(bytes);
      bytes = larger;
    }
    const count = await socket.read(bytes.subarray(length));
    if (count === null) {
      if (length === 0) return undefined;
      throw new Error("the connection ended in the middle of a PROXY header");
    }
    length += count;
    const header = parseProxyHeader(bytes.subarray(0, length));
    if (header.state === "wrong") throw new Error(header.reason);
    if (header.state === "done") {
      const rest = bytes.subarray(header.length, length);
      return {
        socket: rest.length > 0 ? new PrefixedSocket(socket, rest) : socket,
        address: header.source?.address,
      };
    }
  }
}
