// The clients' door: listens, accepts, counts, and closes in order.

import { Acceptor, type Listener } from "../core/acceptor.ts";
import type { AddressList } from "../core/address_list.ts";
import { closeQuietly } from "../core/close_quietly.ts";
import { canonicalAddress } from "../core/ip_address.ts";
import { LogRate } from "../core/log_rate.ts";
import type { Logger } from "../core/logger.ts";
import { messageOf } from "../core/message_of.ts";
import { crash, spawn } from "../core/spawn.ts";
import { TimingWheel } from "../core/timing_wheel.ts";
import { nextTurn, type Turn } from "../core/turn.ts";
import type { Auth } from "../engine/auth.ts";
import type { Engine } from "../engine/engine.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { Arrivals } from "./arrivals.ts";
import { commands } from "./commands/table.ts";
import { Connection, CONNECTION_TASK, type ConnectionHost, type LeftBehind } from "./connection.ts";
import { ClosedConnections } from "./connection_view.ts";
import { APP_GONE, leaveSlowly, SHUTTING_DOWN } from "./farewell.ts";
import { type CloseReason, newServCounters, type ServCounters, type ServLimits } from "./limits.ts";
import { ReadBudget } from "./pace.ts";
import { readProxyHeader } from "./proxied.ts";
import { ServingTime } from "./serving_time.ts";
import type { Socket } from "./socket.ts";
import { FILES_OVER_TLS, type TlsTerminator, type TlsWay } from "./tls_terminator.ts";

/** Settings of a {@link Server}. */
export interface ServerOptions {
  engine: Engine;
  auth: Auth;
  turn: Turn;
  limits: ServLimits;
  logger: Logger;
  /** See {@link Server.proxies}. */
  proxies?: AddressList | null;
}

/**
 * Connections that are told `too-busy` and may then take a second to close, at the same time: each holds
 * one of the few files that are left. Beyond it they are told and closed at once, which costs the line
 * those who have sent something already.
 */
const MAX_REFUSING = 8;
/** Connections that are told of something in one go before others have their turn. */
const TOLD_AT_ONCE = 500;
const NO_FILES = "the open-file limit allows no more connections (ulimit -n, LimitNOFILE)";
/** So much of the files may be held by connections that are on their way in. */
const ARRIVALS_PART = 1 / 4;

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
  readonly servingTime: ServingTime;
  readonly connections: Set<Connection> = new Set();
  /** The last connections that ended, those that were refused with a line included. */
  readonly closed: ClosedConnections = new ClosedConnections();
  /**
   * Where it is set, the doors expect a PROXY header, and that from these addresses only; may be set
   * anew while it serves.
   */
  proxies: AddressList | null;

  #acceptors: Acceptor<Deno.TcpConn>[] = [];
  #accepting: Promise<void>[] = [];
  #arrivals = new Arrivals(this.wheel);
  #perAddress = new Map<string, number>();
  #refusing = 0;
  /** Files that clients hold, those who are leaving and those on their way through TLS included. */
  #files = 0;
  /** The ways through TLS that hold files, also when their connection has ended. */
  #ways = new Set<TlsWay>();
  #state: "serving" | "leaving" | "stopping" = "serving";
  #cutOffs = new LogRate();
  #strangers = new LogRate();
  #refusals = new LogRate();
  #badHeaders = new LogRate();
  #onIdle: (() => void) | null = null;

  constructor(options: ServerOptions) {
    this.engine = options.engine;
    this.auth = options.auth;
    this.turn = options.turn;
    this.servingTime = new ServingTime(options.turn);
    this.limits = options.limits;
    this.logger = options.logger;
    this.proxies = options.proxies ?? null;
    for (const name of commands.keys()) this.counters.commands[name] = 0;
  }

  /**
   * Accepts from `listener` until it is closed; with a terminator, what comes is TLS. Never throws.
   */
  serve(listener: Listener<Deno.TcpConn>, tls: TlsTerminator | null = null): Promise<void> {
    const acceptor = new Acceptor(listener, this.logger);
    this.#acceptors.push(acceptor);
    const accepting = acceptor.run((conn) => {
      this.counters.connectionsTotal++;
      // Writes are gathered already; waiting for more would only delay them.
      conn.setNoDelay(true);
      conn.setKeepAlive(true);
      const address = addressOf(conn);
      if (this.proxies !== null && !this.proxies.has(address)) this.#refuseStranger(conn, address);
      else if (this.proxies === null && tls === null) this.#enter(conn, address, 1);
      else this.#arrive(conn, address, tls);
    });
    this.#accepting.push(accepting);
    return accepting;
  }

  #refuseStranger(conn: Deno.TcpConn, address: string): void {
    this.#countRefused("proxy");
    closeQuietly(conn);
    const further = this.#strangers.next();
    if (further === null) return;
    this.logger.warn("refused: it is not one of trusted_proxies, and proxy_protocol is on", {
      address,
      ...further,
    });
  }

  /** Lets a connection in once its proxy has said for whom it is, and TLS is agreed on. */
  #arrive(conn: Deno.TcpConn, peer: string, tls: TlsTerminator | null): void {
    const files = tls === null ? 1 : FILES_OVER_TLS;
    const { maxFiles } = this.limits;
    if (this.#state !== "serving" || this.#files + files > maxFiles) {
      this.#countRefused(this.#state === "serving" ? "too-busy" : "shutting-down");
      closeQuietly(conn);
      if (this.#state === "serving") this.#tellRefusal(NO_FILES, peer);
      return;
    }
    const bounds = { files, maxFiles: Math.max(files, Math.floor(maxFiles * ARRIVALS_PART)) };
    spawn("serv.arrival", async () => {
      let address = peer;
      let stage: "proxy" | "tls" = "proxy";
      let socket: Socket = conn;
      try {
        if (this.proxies !== null) {
          const header = () => readProxyHeader(conn);
          const proxied = await this.#arrivals.bring({ socket: conn, ...bounds }, header);
          // Somebody who looks whether we are there.
          if (proxied === undefined) {
            this.counters.disconnects.client++;
            return closeQuietly(conn);
          }
          address = proxied.address ?? peer;
          socket = proxied.socket;
        }
        if (tls !== null) {
          stage = "tls";
          const way = tls.wayOf(socket);
          this.#keepCount(way);
          await this.#arrivals.bring({ socket: way, ...bounds }, () => way.open());
          socket = way;
        }
      } catch (error) {
        this.counters.disconnects[stage]++;
        this.#tellFailure(stage, address, error);
        return;
      }
      // Those of a way through TLS are counted until the last of them is closed.
      this.#enter(socket, address, tls === null ? 1 : 0);
    });
  }

  #keepCount(way: TlsWay): void {
    this.#files += FILES_OVER_TLS;
    this.#ways.add(way);
    way.closed.then(() => {
      this.#files -= FILES_OVER_TLS;
      this.#ways.delete(way);
      for (const acceptor of this.#acceptors) acceptor.roomAgain();
      this.#onIdle?.();
    });
  }

  #tellFailure(stage: "proxy" | "tls", address: string, error: unknown): void {
    const reason = messageOf(error);
    // Whoever looks for open ports fails at TLS: no news. A proxy is ours, and set up wrongly.
    if (stage === "tls") {
      this.logger.debug("no TLS connection came about", { reason, address });
      return;
    }
    const further = this.#badHeaders.next();
    if (further === null) return;
    this.logger.warn("closed a connection of a proxy", { reason, address, ...further });
  }

  /** Takes a client in, or tells it why not. */
  #enter(socket: Socket, address: string, files: number): void {
    const refusal = this.#refusal(address, files);
    if (refusal !== null && this.#state === "serving") this.#tellRefusal(refusal, address);
    if (refusal !== null && this.#state !== "serving") {
      this.#countRefused("shutting-down");
      closeQuietly(socket);
      return;
    }
    if (refusal !== null && this.#refusing >= MAX_REFUSING) {
      this.#countRefused("too-busy");
      this.#refuseAtOnce(socket, refusal);
      return;
    }
    const connection = new Connection(this, socket, address, files);
    if (refusal !== null) {
      this.counters.refused++;
      this.#refusing++;
      connection.refuse(refusal);
    } else {
      this.connections.add(connection);
      this.#files += files;
      this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
    }
    try {
      connection.run();
    } catch (error) {
      crash(CONNECTION_TASK, error);
    }
  }

  /** One that came in and never was among the connections, and why it ended. */
  #countRefused(reason: CloseReason): void {
    this.counters.refused++;
    this.counters.disconnects[reason]++;
  }

  #refuseAtOnce(socket: Socket, refusal: string): void {
    const { counters } = this;
    counters.errors["too-busy"] = (counters.errors["too-busy"] ?? 0) + 1;
    const close = () => closeQuietly(socket);
    socket.write(encodeUtf8(`ERROR too-busy ${refusal}\r\n`)).then((count) => {
      counters.bytesOut += count;
      close();
    }, close);
  }

  #tellRefusal(reason: string, address: string): void {
    const further = this.#refusals.next();
    if (further !== null) this.logger.warn("refused", { reason, address, ...further });
  }

  #refusal(address: string, files: number): string | null {
    const { maxConnections, maxConnectionsPerAddress, maxFiles } = this.limits;
    if (this.#state !== "serving") return "the server is stopping";
    if (this.connections.size >= maxConnections) {
      return `${maxConnections} connections are all that this server takes (max_connections)`;
    }
    if (this.#files + files > maxFiles) return NO_FILES;
    const fromThere = this.#perAddress.get(address) ?? 0;
    if (maxConnectionsPerAddress > 0 && fromThere >= maxConnectionsPerAddress) {
      return `${maxConnectionsPerAddress} connections are all that one address may have ` +
        `(max_connections_per_address)`;
    }
    return null;
  }

  onCutOff(connection: Connection, explanation: string): void {
    // A crowd that stops reading has one cause.
    const further = this.#cutOffs.next();
    if (further === null) return;
    const { address } = connection.session;
    this.logger.warn("slow consumer cut off", { explanation, address, ...further });
  }

  onClosed(connection: Connection, reason: CloseReason, left: LeftBehind): void {
    this.closed.add(connection, reason, left);
    this.counters.disconnects[reason]++;
    if (!this.connections.delete(connection)) {
      this.#refusing--;
      return;
    }
    this.#files -= connection.files;
    const { address } = connection.session;
    const others = (this.#perAddress.get(address) ?? 1) - 1;
    if (others === 0) this.#perAddress.delete(address);
    else this.#perAddress.set(address, others);
    for (const acceptor of this.#acceptors) acceptor.roomAgain();
    this.#onIdle?.();
  }

  /** Files that clients hold. */
  get files(): number {
    return this.#files;
  }

  /** Other limits from now on, for connections that are open, too. Resolves when all know. */
  async setLimits(limits: ServLimits): Promise<void> {
    Object.assign(this.limits, limits);
    await this.#tell((connection) => connection.limitsChanged());
  }

  /** Closes every connection that is in one of the applications. Resolves when all know. */
  async closeApps(ids: ReadonlySet<string>): Promise<void> {
    await this.#tell((connection) => {
      if (ids.has(connection.session.app.id)) connection.sayGoodbye(APP_GONE);
    });
  }

  /** Does something to every connection, so that the others still have their turn meanwhile. */
  async #tell(tell: (connection: Connection) => void): Promise<void> {
    let count = 0;
    for (const connection of this.connections) {
      tell(connection);
      if (++count % TOLD_AT_ONCE === 0) await nextTurn();
    }
  }

  /** Takes no new connections. Resolves when the system has closed the doors. */
  async #closeDoors(): Promise<void> {
    for (const acceptor of this.#acceptors) acceptor.close();
    this.#arrivals.close();
    // The system closes a listener only when the accept under way is given up.
    await Promise.all(this.#accepting);
  }

  /**
   * Takes no new connections, and has the present ones leave one after the other, spread over
   * `durationMs`. Resolves when none is left, at the end of that time, or when `signal` is aborted.
   */
  async leave(durationMs: number, signal: AbortSignal): Promise<void> {
    if (this.#state !== "serving") return;
    this.#state = "leaving";
    await this.#closeDoors();
    await leaveSlowly(this.connections, durationMs, signal);
  }

  /** Resolves when nobody is left, and nothing is on its way to anybody, or after `ms`. */
  #untilAllLeft(ms: number): Promise<void> {
    const hasLeft = () => this.connections.size === 0 && this.#ways.size === 0;
    if (hasLeft()) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#onIdle = () => {
        if (!hasLeft()) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /**
   * Takes no new connections, tells the present ones, delivers what is queued, and closes them;
   * what is left after `drainTimeoutMs` is closed at once. Resolves to the number of those.
   */
  async stop(drainTimeoutMs: number): Promise<number> {
    this.#state = "stopping";
    await this.#closeDoors();
    for (const connection of this.connections) connection.sayGoodbye(SHUTTING_DOWN);
    await this.#untilAllLeft(drainTimeoutMs);
    const left = this.connections.size;
    for (const connection of [...this.connections]) connection.close("shutting-down");
    this.wheel.stop();
    return left;
  }
}

function addressOf({ remoteAddr: { hostname } }: Deno.TcpConn): string {
  // A listener on "::" shows IPv4 clients as ::ffff:192.0.2.1.
  return hostname.startsWith("::ffff:") ? canonicalAddress(hostname) ?? hostname : hostname;
}
