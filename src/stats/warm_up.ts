// A first request that nobody has sent. What it runs has to be compiled, some 30 ms in which nobody else is
// served: better right after the start and in pieces than when somebody asks.

import { nextTurn } from "../core/turn.ts";
import type { Wire } from "./conn_stream.ts";

/** Any door answers it, if only by 404. */
const TARGET = "/healthz";
const HEAD = `GET ${TARGET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`;

/** The request as an app takes it. */
export function firstRequest(): Request {
  return new Request(`http://localhost${TARGET}`, { headers: { Host: "localhost" } });
}

/** A client that sends it in two pieces, each in a turn of its own, and ends when the server closes. */
export function firstClient(): Wire {
  const pieces = [HEAD, "\r\n"].map((text) => new TextEncoder().encode(text));
  const closed = Promise.withResolvers<null>();
  return {
    async read(buffer) {
      await nextTurn();
      const piece = pieces.shift();
      if (piece === undefined) return await closed.promise;
      buffer.set(piece);
      return piece.length;
    },
    write: (bytes) => Promise.resolve(bytes.length),
    closeWrite: () => Promise.resolve(),
    close: () => closed.resolve(null),
    setNoDelay() {},
  };
}
