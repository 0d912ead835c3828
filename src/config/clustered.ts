// Whether a configuration makes the server a node of a cluster, and where its peers come in.

import { hostAndPort } from "../core/host_port.ts";
import type { Config } from "./schema.ts";
import type { ListenAddr } from "./values.ts";

/** The port for nodes where none is named. */
const S2S_PORT = 2223;

/** Any of three keys does. */
export function isClustered(
  config: Pick<Config, "etc_servers" | "s2s_peers" | "s2s_listen_addr">,
): boolean {
  return config.etc_servers.length > 0 || config.s2s_peers.length > 0 ||
    config.s2s_listen_addr !== null;
}

/** Where a node of a cluster listens for its peers. */
export function s2sListenAddr(
  { s2s_listen_addr, tcp_listen_addr: { hostname } }: Pick<
    Config,
    "s2s_listen_addr" | "tcp_listen_addr"
  >,
): ListenAddr {
  if (s2s_listen_addr !== null) return s2s_listen_addr;
  const text = hostname === "::" ? `:${S2S_PORT}` : hostAndPort(hostname, S2S_PORT);
  return { hostname, port: S2S_PORT, text };
}
