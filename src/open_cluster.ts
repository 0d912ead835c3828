// Makes the server a node of a cluster where the configuration says so: its router, its links, who the others are.

import { s2sListenAddr } from "./config/clustered.ts";
import type { Config, ListenAddr } from "./config/schema.ts";
import { hostAndPort, isWildcard } from "./core/host_port.ts";
import { getLogger } from "./core/logger.ts";
import { getNetworkAddress } from "@std/net";
import type { Turn } from "./core/turn.ts";
import { VERSION } from "./core/version.ts";
import { listenTcp } from "./doors.ts";
import type { ClusterOptions } from "./engine/engine.ts";
import type { RouterHost } from "./engine/ports/router.ts";
import type { TokenStore } from "./engine/ports/token_store.ts";
import { Cluster, DuplicateNodeError } from "./s2s/cluster.ts";
import { ClusterTokenStore } from "./s2s/cluster_tokens.ts";
import { CAPABILITIES } from "./s2s/hello.ts";
import { ClusterRouter } from "./s2s/router.ts";
import { LinkTls, LinkTlsFault } from "./s2s/tls_wire.ts";
import { StaticMembership } from "./s2s/static_membership.ts";
import type { ZooKeeperMembership } from "./s2s/zookeeper.ts";
import { engineLimits, routerLimits } from "./settings.ts";
import { StartError } from "./start_error.ts";

/** What {@link OpenCluster.open} needs. */
export interface OpenClusterOptions {
  readonly config: Config;
  readonly turn: Turn;
  readonly node: string;
  /** Where clients come in. */
  readonly clients: Deno.NetAddr;
  /** Our own store of tokens. */
  readonly tokens: TokenStore;
}

const log = getLogger("s2s");

/** Said once, however many nodes this process runs. */
let hasWarned = false;

/** This node among the others, as the configuration says. */
export class OpenCluster {
  readonly router: ClusterRouter;
  /** Good on every node. */
  readonly tokens: TokenStore;
  /** Known after {@link start}. */
  cluster: Cluster | null = null;

  #options: OpenClusterOptions;
  #tls: LinkTls | null;
  #listener: Deno.TcpListener;
  #tokenTtlMs: number;
  #listed: StaticMembership;
  #directory: ZooKeeperMembership | null = null;

  private constructor(options: OpenClusterOptions) {
    const { config, turn, tokens, node } = options;
    this.#options = options;
    this.#tls = readLinkTls(config);
    this.#listener = listenTcp("s2s_listen_addr", s2sListenAddr(config), config.tcp_backlog);
    this.#tokenTtlMs = config.token_ttl;
    const isShared = config.msg_storage === "mongodb";
    this.router = new ClusterRouter({
      node,
      turn,
      limits: routerLimits(config),
      tokens: isShared ? null : tokens,
      onLinkDown: (...what) => this.cluster?.onLinkDown(...what),
      neverLinked: () => this.cluster?.neverLinked() ?? [],
    });
    this.tokens = isShared
      ? tokens
      : new ClusterTokenStore(tokens, () => this.router.peers.values(), () => this.#tokenTtlMs);
    this.#listed = new StaticMembership(config.s2s_peers.map(textOf));
  }

  /** Opens the door for nodes. Throws a {@link StartError}. */
  static open(options: OpenClusterOptions): OpenCluster {
    return new OpenCluster(options);
  }

  /** For the engine. */
  get engineOptions(): ClusterOptions {
    const { config } = this.#options;
    return {
      router: this.router,
      isStoreShared: config.msg_storage === "mongodb",
      arrivals: engineLimits(config).arrivals,
    };
  }

  /**
   * Looks for the others, for a few seconds at most. Throws a {@link StartError} where another node
   * alive has our id.
   */
  async start(host: RouterHost): Promise<void> {
    const { config, node } = this.#options;
    this.router.bind(host);
    const { etc_servers, msg_storage } = config;
    if (etc_servers.length > 0) this.#directory = await this.#openDirectory(config);
    const addrs = this.#addrs(config);
    const cluster = this.cluster = new Cluster({
      self: {
        cluster: config.cluster,
        id: node,
        // Greater than that of an earlier start, also where the clock was set back meanwhile.
        incarnation: Math.max(Date.now() * 1000, host.lastTs),
        ...addrs,
        software: VERSION,
        capabilities: CAPABILITIES.filter((capability) =>
          capability === "history"
            ? msg_storage !== ""
            : capability === "tokens"
            ? msg_storage !== "mongodb"
            : true
        ),
      },
      secret: config.s2s_secret,
      router: this.router,
      listener: this.#listener,
      tls: this.#tls,
      memberships: [
        this.#listed,
        this.router.heardOf,
        ...(this.#directory === null ? [] : [this.#directory]),
      ],
    });
    log.info("a node of a cluster", {
      cluster: config.cluster,
      nodes_come_in_at: addrs.s2sAddr,
      links: this.#tls === null ? "plain" : `TLS (${this.#tls.subject})`,
      found_by: cluster.directories.join(", "),
    });
    if (!hasWarned && (msg_storage === "sqlite" || msg_storage === "memory")) {
      hasWarned = true;
      log.warn(
        "each node keeps the history of what it has accepted: while one is down its part is missing, " +
          'and answers say PARTIAL; with msg_storage: "mongodb" all nodes share one',
      );
    }
    try {
      await cluster.start();
    } catch (error) {
      if (!(error instanceof DuplicateNodeError)) throw error;
      await cluster.stop(0);
      throw new StartError(`node_id: ${error.message}`, { cause: error });
    }
  }

  async #openDirectory(config: Config): Promise<ZooKeeperMembership> {
    // Not before it is wanted: most servers stand alone.
    const { ZooKeeperMembership } = await import("./s2s/zookeeper.ts");
    return new ZooKeeperMembership({
      servers: config.etc_servers.map(textOf),
      cluster: config.cluster,
      sessionTimeoutMs: config.s2s_session_timeout,
      logger: log,
    });
  }

  /** What others dial, and what their clients do. */
  #addrs(config: Config): { s2sAddr: string; clientAddr: string } {
    const reachable = ({ hostname, port }: { hostname: string; port: number }) =>
      hostAndPort(isWildcard(hostname) ? getNetworkAddress() ?? "127.0.0.1" : hostname, port);
    const { s2s_advertise_addr: advertised, tcp_listen_addr } = config;
    const { port } = this.#listener.addr;
    return {
      s2sAddr: advertised !== null
        ? textOf(advertised)
        : reachable({ hostname: s2sListenAddr(config).hostname, port }),
      clientAddr: reachable({
        hostname: tcp_listen_addr.hostname,
        port: this.#options.clients.port,
      }),
    };
  }

  /** Takes over what a reload applies. */
  async apply(config: Config): Promise<void> {
    this.router.setLimits(routerLimits(config));
    this.#tokenTtlMs = config.token_ttl;
    this.#listed.setPeers(config.s2s_peers.map(textOf));
    const servers = config.etc_servers.map(textOf);
    if (servers.length === 0) {
      if (this.#directory !== null) this.cluster?.remove(this.#directory);
      this.#directory = null;
    } else if (this.#directory === null) {
      this.#directory = await this.#openDirectory(config);
      this.cluster?.add(this.#directory);
    } else {
      this.#directory.setServers(servers);
      this.#directory.setSessionTimeout(config.s2s_session_timeout);
    }
  }

  /** Leaves the others; at most about `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    if (this.cluster === null) this.#listener.close();
    else await this.cluster.stop(timeoutMs);
  }
}

/** Null where links are plain. Throws a {@link StartError} that names the key. */
function readLinkTls({ s2s_tls_cert, s2s_tls_key, s2s_tls_ca }: Config): LinkTls | null {
  if (s2s_tls_cert === "") return null;
  if (!LinkTls.isPossible()) {
    throw new StartError(
      `s2s_tls_cert: Deno ${Deno.version.deno}, which this program runs on, cannot serve links over ` +
        "TLS; 2.9 can",
    );
  }
  try {
    return LinkTls.load({ cert: s2s_tls_cert, key: s2s_tls_key, ca: s2s_tls_ca });
  } catch (error) {
    if (!(error instanceof LinkTlsFault)) throw error;
    throw new StartError(`s2s_tls_${error.file}: ${error.message}`, { cause: error });
  }
}

/** As it is dialled. */
function textOf({ hostname, port }: ListenAddr): string {
  return hostAndPort(hostname, port);
}
