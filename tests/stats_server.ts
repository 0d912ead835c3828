// A stats door on a real socket, and clients that send it what they like.

import type { Hono } from "hono";
import { createStatsApp } from "../src/stats/app.ts";
import {
  type HttpApp,
  type HttpLimits,
  startStatsServer,
  type StatsServer,
} from "../src/stats/server.ts";
import { statsDeps } from "./stats_deps.ts";

/** Deadlines that a test can wait for. */
export const SHORT: Partial<HttpLimits> = {
  headersTimeoutMs: 200,
  requestTimeoutMs: 300,
  answerTimeoutMs: 200,
  keepAliveTimeoutMs: 100,
  checkIntervalMs: 20,
};

export function statsApp(): Hono {
  return createStatsApp(statsDeps({ conf: () => ({}) }));
}

export async function withServer(
  fn: (server: StatsServer) => Promise<void>,
  { app = statsApp(), limits = {} }: { app?: HttpApp; limits?: Partial<HttpLimits> } = {},
): Promise<void> {
  const server = startStatsServer({ hostname: "127.0.0.1", port: 0, app, limits });
  try {
    await fn(server);
  } finally {
    await server.close();
  }
}

export async function connect(server: StatsServer): Promise<Deno.TcpConn> {
  return await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
}

/** Writes everything or finds that the server has closed. */
export async function send(conn: Deno.Conn, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
  } catch {
    // Closed; what the server said meanwhile is read by readAll.
  }
}

/** Everything until the server closes, in order or by a reset. */
export async function readAll(conn: Deno.Conn): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(64 * 1024);
  let text = "";
  try {
    for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
      text += decoder.decode(buffer.subarray(0, n), { stream: true });
    }
  } catch {
    // A reset.
  }
  return text;
}

/** Sends `text`, reads until the server closes, and returns what came and how long that took. */
export async function exchange(server: StatsServer, text: string) {
  using conn = await connect(server);
  const startMs = performance.now();
  const [answer] = await Promise.all([readAll(conn), send(conn, text)]);
  return { answer, ms: performance.now() - startMs };
}

/** The end of a head, and of a connection. */
export const END = "Host: localhost\r\nConnection: close\r\n\r\n";

/** Sends a request on a connection that stays, and reads its answer, which is short. */
export async function ask(conn: Deno.Conn, path = "/s/ping"): Promise<string> {
  await send(conn, `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  const buffer = new Uint8Array(4096);
  return new TextDecoder().decode(buffer.subarray(0, await conn.read(buffer) ?? 0));
}
