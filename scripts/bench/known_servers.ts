// Which servers are compared, and what can be asked of one.

import type { Protocol } from "./loadgen.ts";
import type { Processes } from "./processes.ts";

/** pushd from its source, pushd as one compiled file, and its peers. */
export const SERVERS = ["pushd", "binary", "nats", "redis", "mosquitto"] as const;
export type ServerName = typeof SERVERS[number];

/** What each of them is spoken to in. */
export const PROTOCOL_OF: Readonly<Record<ServerName, Protocol>> = {
  pushd: "pushd",
  binary: "pushd",
  nats: "nats",
  redis: "redis",
  mosquitto: "mqtt",
};

export const STORAGES = ["off", "memory", "sqlite"] as const;
/** What pushd does with messages beside delivering them. */
export type Storage = typeof STORAGES[number];

export interface ServerOptions {
  folder: string;
  processes: Processes;
  storage: Storage;
  /** What the server's own folder is called; its name where only one of it runs. */
  folderName?: string;
  /** NATS and Redis keep messages too, and acknowledge what is on the disk. */
  durable?: boolean;
  /** pushd's `msg_storage_flush_policy`. */
  flushPolicy?: 0 | 1;
  /** pushd's `max_cache_msgs_every_channel`. */
  cacheMessages?: number;
  /** It listens with this certificate, over TLS. */
  tls?: { cert: string; key: string };
  /** Where it listens; a free port where it is left out. */
  port?: number;
  /** Further arguments of NATS and Redis, further lines of Mosquitto's configuration. */
  args?: readonly string[];
  /** Further keys of pushd's configuration. */
  config?: Readonly<Record<string, unknown>>;
}

/** A server that is not installed; the message says how to get it. */
export class MissingError extends Error {
  override readonly name = "MissingError";
}
