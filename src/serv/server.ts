// The clients' door: listens, accepts, counts, and closes in order.

import type { Logger } from "../core/logger.ts";
import { spawn } from "../core/spawn.ts";
import { TimingWheel } from "../core/timing_wheel.ts";
import type { Turn } from "../core/turn.ts";
import type { Auth } from "../engine/auth.ts";
import type { Engine } from "../engine/engine.ts";
import { commands } from "./commands/table.ts";
import { Connection, type ConnectionHost } from "./connection.ts";
import { type CloseReason, newServCounters, type ServCounters, type ServLimits } from "./limits.ts";
import { ReadBudget } from "./pace.ts";

/** Settings of a {@link Server}. */
export interface ServerOptions {
  engine: Engine;
  auth: Auth;
  turn: Turn;
  limits: ServLimits;
  logger: Logger;
}

/** Connections that are told `too-busy` at the same time; beyond it they are just closed. */
const MAX_REFUSING = 32;
/** Least time between two log lines about slow consumers, ms. */
const CUT_OFF_LOG_MS = 1000;
const MIN_ACCEPT_DELAY_MS = 10;
const MAX_ACCEPT_DELAY_MS = 1000;

/** Serves clients of the line protocol on any number of listeners. */
export class Server implements ConnectionHost {
  readonly engine: Engine;
  readonly auth: Auth;
  readonly turn: Turn;
  readonly wheel: TimingWheel = new TimingWheel();
  readonly limits: ServLimits;
  readonly counters: ServCounters = newServCounters();
  readonly logger: Logger;
  readonly budget: ReadBudget = new ReadBudget();
  readonly connections: Set<Connection> = new Set();

  #listeners: Deno.TcpListener[] = [];
  #accepting: Promise<void>[] = [];
  #perAddress = new Map<string, number>();
  #refusing = 0;
  #stopping = false;
  #cutOffsUnlogged = 0;
  #cutOffLoggedMs = -Infinity;
  #onIdle: (() => void) | null = null;

  constructor(options: ServerOptions) {
    this.engine = options.engine;
    this.auth = options.auth;
    this.turn = options.turn;
    this.limits = options.limits;
    this.logger = options.logger;
    for (const name of commands.keys()) this.counters.commands[name] = 0;
  }

  /** Accepts from `listener` until it is closed. Never throws. */
  serve(listener: Deno.TcpListener): Promise<void> {
    this.#listeners.push(listener);
    const accepting = this.#accept(listener);
    this.#accepting.push(accepting);
    return accepting;
  }

  async #accept(listener: Deno.TcpListener): Promise<void> {
    let delayMs = MIN_ACCEPT_DELAY_MS;
    while (!this.#stopping) {
      try {
        this.#accepted(await listener.accept());
        delayMs = MIN_ACCEPT_DELAY_MS;
      } catch (error) {
        if (this.#stopping || error instanceof Deno.errors.BadResource) return;
        // Mostly "too many open files": the connection stays in the backlog, and trying again at
        // once would spin. ECONNABORTED and its kind pass by themselves.
        if (delayMs === MIN_ACCEPT_DELAY_MS) {
          this.logger.warn("cannot accept a connection; trying again", { error });
        }
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        delayMs = Math.min(delayMs * 2, MAX_ACCEPT_DELAY_MS);
      }
    }
  }

  #accepted(conn: Deno.TcpConn): void {
    // A listener on "::" shows IPv4 clients as ::ffff:192.0.2.1.
    const address = conn.remoteAddr.hostname.replace(/^::ffff:(?=\d+\.)/, "");
    this.counters.connectionsTotal++;
    const refusal = this.#refusal(address);
    if (refusal !== null && (this.#refusing >= MAX_REFUSING || this.#stopping)) {
      this.counters.refused++;
      conn.close();
      return;
    }
    // Writes are gathered already; waiting for more would only delay them.
    conn.setNoDelay(true);
    conn.setKeepAlive(true);
    const connection = new Connection(this, conn, address);
    if (refusal !== null) {
      this.counters.refused++;
      this.#refusing++;
      connection.refuse(refusal);
    } else {
      this.connections.add(connection);
      this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
    }
    spawn("serv.connection", () => connection.run());
  }

  #refusal(address: string): string | null {
    const { maxConnections, maxConnectionsPerAddress } = this.limits;
    if (this.#stopping) return "the server is stopping";
    if (this.connections.size >= maxConnections) {
      return `${maxConnections} connections are all that this server takes (max_connections)`;
    }
    const fromThere = this.#perAddress.get(address) ?? 0;
    if (maxConnectionsPerAddress > 0 && fromThere >= maxConnectionsPerAddress) {
      return `${maxConnectionsPerAddress} connections are all that one address may have ` +
        `(max_connections_per_address)`;
    }
    return null;
  }

  onCutOff(connection: Connection, explanation: string): void {
    // One line a second at most: a crowd that stops reading has one cause.
    const nowMs = performance.now();
    this.#cutOffsUnlogged++;
    if (nowMs - this.#cutOffLoggedMs < CUT_OFF_LOG_MS) return;
    this.logger.warn("slow consumer cut off", {
      explanation,
      address: connection.session.address,
      ...(this.#cutOffsUnlogged > 1 ? { further: this.#cutOffsUnlogged - 1 } : {}),
    });
    this.#cutOffLoggedMs = nowMs;
    this.#cutOffsUnlogged = 0;
  }

  onClosed(connection: Connection, reason: CloseReason): void {
    this.counters.disconnects[reason]++;
    this.counters.bytesOutClosed += connection.writer.written;
    if (!this.connections.delete(connection)) {
      this.#refusing--;
      return;
    }
    const { address } = connection.session;
    const left = (this.#perAddress.get(address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(address);
    else this.#perAddress.set(address, left);
    if (this.connections.size === 0) this.#onIdle?.();
  }

  /** Bytes that clients took. */
  get bytesOut(): number {
    let sum = this.counters.bytesOutClosed;
    for (const { writer } of this.connections) sum += writer.written;
    return sum;
  }

  /**
   * Takes no new connections, tells the present ones, delivers what is queued, and closes them;
   * what is left after `drainTimeoutMs` is closed at once. Resolves to the number of those.
   */
  async stop(drainTimeoutMs: number): Promise<number> {
    this.#stopping = true;
    for (const listener of this.#listeners) listener.close();
    // The system closes a listener only when the accept under way is given up.
    await Promise.all(this.#accepting);
    for (const connection of this.connections) connection.shutDown();
    if (this.connections.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, drainTimeoutMs);
        this.#onIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    const left = this.connections.size;
    for (const connection of [...this.connections]) connection.close("shutting-down");
    this.wheel.stop();
    return left;
  }
}
