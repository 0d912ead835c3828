// Connections as operators see them: those that are open, and the last ones that ended.

import { Slices } from "../core/slices.ts";
import { Top } from "../core/top.ts";
import type { Connection, LeftBehind } from "./connection.ts";
import type { CloseReason } from "./limits.ts";

/** Connections that ended and are remembered. */
const MAX_CLOSED = 1000;
/** Connections that are looked at before a look at the clock. */
const LOOKED_AT_ONCE = 200;

/** What open connections are sorted by, the largest first. */
export type ConnectionOrder = "pending" | "out" | "in";

interface View {
  readonly id: number;
  /** Without its port. */
  readonly address: string;
  readonly user: string | null;
  readonly app: string;
  readonly channels: number;
  /** Bytes that wait, or waited, to be written. */
  readonly pending: number;
  readonly bytes_in: number;
  readonly bytes_out: number;
  readonly connected_s: number;
}

/** An open connection. */
export interface ConnectionView extends View {
  /** For how long it has sent nothing. */
  readonly idle_s: number;
}

/** A connection that has ended. */
export interface ClosedView extends View {
  readonly reason: CloseReason;
  /** ISO 8601. */
  readonly closed_at: string;
}

function viewOf(connection: Connection, nowMs: number): View {
  const { id, session, writer, bytesIn, startedMs } = connection;
  return {
    id,
    address: session.address,
    user: session.user ?? null,
    app: session.app.id,
    channels: session.subscriptions.size,
    pending: writer.pending,
    bytes_in: bytesIn,
    bytes_out: writer.written,
    connected_s: secondsBetween(startedMs, nowMs),
  };
}

function secondsBetween(fromMs: number, toMs: number): number {
  return Math.round(toMs - fromMs) / 1000;
}

/** At most `limit` of them, those with the most first. */
export async function topConnections(
  connections: Iterable<Connection>,
  limit: number,
  order: ConnectionOrder,
): Promise<ConnectionView[]> {
  const sizeOf = {
    pending: ({ writer }: Connection) => writer.pending,
    out: ({ writer }: Connection) => writer.written,
    in: ({ bytesIn }: Connection) => bytesIn,
  }[order];
  const top = new Top<Sized>(limit, isBefore);
  const slices = new Slices();
  let count = 0;
  for (const connection of connections) {
    top.add({ connection, size: sizeOf(connection) });
    if (++count % LOOKED_AT_ONCE === 0 && slices.isOver) await slices.turn();
  }
  const views: ConnectionView[] = [];
  for (const { connection, size } of await top.take(slices)) {
    const nowMs = performance.now();
    views.push({
      ...viewOf(connection, nowMs),
      [FIELDS[order]]: size,
      idle_s: secondsBetween(connection.lastReadMs, nowMs),
    });
    if (views.length % LOOKED_AT_ONCE === 0 && slices.isOver) await slices.turn();
  }
  return views;
}

/** Where what they are sorted by is shown. */
const FIELDS = { pending: "pending", out: "bytes_out", in: "bytes_in" } as const;

/** A connection with what it is sorted by, as that was when it was looked at. */
interface Sized {
  readonly connection: Connection;
  readonly size: number;
}

function isBefore(a: Sized, b: Sized): boolean {
  return a.size !== b.size ? a.size > b.size : a.connection.id < b.connection.id;
}

/** The last connections that ended. */
export class ClosedConnections {
  #views: ClosedView[] = [];
  /** Where the next one goes, once all places are taken. */
  #next = 0;

  /** `left`: what it had before it was closed. */
  add(connection: Connection, reason: CloseReason, left: LeftBehind): void {
    const view = {
      ...viewOf(connection, performance.now()),
      ...left,
      reason,
      closed_at: new Date().toISOString(),
    };
    if (this.#views.length < MAX_CLOSED) this.#views.push(view);
    else this.#views[this.#next] = view;
    this.#next = (this.#next + 1) % MAX_CLOSED;
  }

  /** At most `limit`, the last one first. */
  last(limit: number): ClosedView[] {
    const { length } = this.#views;
    const from = length < MAX_CLOSED ? length : this.#next + length;
    return Array.from(
      { length: Math.min(limit, length) },
      (_, i) => this.#views[(from - 1 - i) % length],
    );
  }
}
