// Checks between keys, of values that are each right for themselves.

import { isLoopback } from "../core/host_check.ts";
import { isClustered, s2sListenAddr } from "./clustered.ts";
import type { Steps } from "./given.ts";
import { quoted } from "./report.ts";
import type { Config, KeyName } from "./schema.ts";
import { formatSize } from "./values.ts";

/** What a check has found. */
export interface Finding {
  /** The key that it is about, and behind it the others that were looked at. */
  readonly keys: readonly [KeyName, ...KeyName[]];
  /** To the part of the key's value that is meant. */
  readonly steps: Steps;
  readonly message: string;
}

interface Check {
  /** The key that a finding is about. */
  readonly at: KeyName;
  /** The other keys that are looked at; a check is left out when one of all of them is wrong. */
  readonly with: readonly KeyName[];
  readonly find: (config: Config) => (string | { steps: Steps; message: string } | null)[];
}

/** A message and what stands around it in its document. */
const MAX_MONGODB_LINE_BYTES = 15 * 2 ** 20;

/** What keeps the server from starting. */
const MISTAKES: readonly Check[] = [
  atLeastALine("max_pending_bytes", (config) => config.max_pending_bytes),
  atLeastALine("max_cache_bytes", (config) => config.max_cache_bytes),
  atLeastALine("max_storage_outstanding_bytes", (config) => config.max_storage_outstanding_bytes),
  {
    at: "max_line_bytes",
    with: ["msg_storage"],
    find: ({ max_line_bytes: bytes, msg_storage }) => [
      msg_storage === "mongodb" && bytes > MAX_MONGODB_LINE_BYTES
        ? `${quoted(formatSize(bytes))}: a document of MongoDB holds 16 MiB; write at most ${
          formatSize(MAX_MONGODB_LINE_BYTES)
        } with msg_storage: "mongodb"`
        : null,
    ],
  },
  {
    at: "apps",
    with: [],
    find: ({ apps }) =>
      apps.map(({ id }, i) =>
        apps.findIndex((app) => app.id === id) === i
          ? null
          : { steps: [i, "id"], message: `${quoted(id)}: given twice; ids are unique` }
      ),
  },
  needs("tls_listen_addr", ["tls_cert", "tls_key"], (config) => config.tls_listen_addr !== null),
  needs("long_polling_tls", ["tls_cert", "tls_key"], (config) => config.long_polling_tls),
  needs("tls_cert", ["tls_key"], (config) => config.tls_cert !== ""),
  needs("tls_key", ["tls_cert"], (config) => config.tls_key !== ""),
  needs("s2s_tls_cert", ["s2s_tls_key", "s2s_tls_ca"], (config) => config.s2s_tls_cert !== ""),
  needs("s2s_tls_key", ["s2s_tls_cert", "s2s_tls_ca"], (config) => config.s2s_tls_key !== ""),
  needs("s2s_tls_ca", ["s2s_tls_cert", "s2s_tls_key"], (config) => config.s2s_tls_ca !== ""),
  {
    at: "s2s_secret",
    with: ["etc_servers", "s2s_peers", "s2s_listen_addr", "tcp_listen_addr"],
    find: (config) => {
      if (!isClustered(config) || config.s2s_secret !== "") return [];
      const addr = s2sListenAddr(config);
      const remote = config.s2s_peers.find(({ hostname }) => !isLoopback(hostname));
      if (!isLoopback(addr.hostname)) {
        return [
          `is empty, and others can reach ${quoted(addr.text)}, where nodes come in; give all ` +
          "nodes the same secret, or listen on loopback (s2s_listen_addr)",
        ];
      }
      return [
        remote === undefined
          ? null
          : `is empty, and ${quoted(remote.text)} in s2s_peers is not on loopback: whoever ` +
            "answers there would be taken for a node; give all nodes the same secret",
      ];
    },
  },
  {
    at: "proxy_protocol",
    with: ["trusted_proxies"],
    find: (config) => [
      config.proxy_protocol && config.trusted_proxies.length === 0
        ? "true: needs trusted_proxies, or nobody could connect; name the proxies there"
        : null,
    ],
  },
  {
    at: "prof_listen_addr",
    with: [],
    find: ({ prof_listen_addr: addr }) => [
      addr === null || isLoopback(addr.hostname)
        ? null
        : `${
          quoted(addr.text)
        }: profiles are served on loopback only; write "127.0.0.1:${addr.port}"`,
    ],
  },
  {
    at: "web_origins",
    with: [],
    find: ({ web_origins: origins }) => [
      origins.includes("*") && origins.length > 1
        ? '"*" is every origin; write it alone, or take it out'
        : null,
    ],
  },
];

/** What the operator should know before somebody else finds out. */
const WARNINGS: readonly Check[] = [
  {
    at: "tcp_listen_addr",
    with: ["auth"],
    find: ({ tcp_listen_addr: addr, auth }) => [
      auth === "off" && !isLoopback(addr.hostname)
        ? `${quoted(addr.text)}: others can reach this address, and auth is "off": ` +
          "everybody who does may read and publish everything"
        : null,
    ],
  },
  {
    at: "stats_listen_addr",
    with: ["stats_token"],
    find: ({ stats_listen_addr: addr, stats_token }) => [
      addr !== null && stats_token === "" && !isLoopback(addr.hostname)
        ? `${quoted(addr.text)}: others can reach this address, and stats_token is empty: ` +
          "everybody who does may read the statistics"
        : null,
    ],
  },
  {
    at: "auth",
    with: ["apps"],
    find: ({ auth, apps }) => [
      auth === "on" && apps.length === 0
        ? '"on": apps is empty, so nobody can authenticate; name an application there'
        : null,
    ],
  },
  {
    at: "tls_cert",
    with: ["tls_listen_addr", "long_polling_tls"],
    find: (config) => [
      config.tls_cert !== "" && config.tls_listen_addr === null && !config.long_polling_tls
        ? "not used while tls_listen_addr is off and long_polling_tls is false"
        : null,
    ],
  },
];

/** What the values of `config` say together. Checks that need a key of `wrong` are left out. */
export function crossCheck(
  config: Config,
  wrong: ReadonlySet<KeyName> = new Set(),
): { mistakes: Finding[]; warnings: Finding[] } {
  const run = (checks: readonly Check[]) =>
    checks.flatMap(({ at, with: others, find }): Finding[] => {
      const keys = [at, ...others] as const;
      if (keys.some((name) => wrong.has(name))) return [];
      return find(config).filter((found) => found !== null).map((found) =>
        typeof found === "string" ? { keys, steps: [], message: found } : { keys, ...found }
      );
    });
  return { mistakes: run(MISTAKES), warnings: run(WARNINGS) };
}

/** A bound in bytes must let the longest line through. */
function atLeastALine(at: KeyName, of: (config: Config) => number): Check {
  return {
    at,
    with: ["max_line_bytes"],
    find: (config) => [
      of(config) < config.max_line_bytes
        ? `${quoted(formatSize(of(config)))}: less than max_line_bytes, so that the longest line ` +
          `would not fit; write ${formatSize(config.max_line_bytes)} or more`
        : null,
    ],
  };
}

/** When `on`, none of `others`, which are paths, may be empty. */
function needs(at: KeyName, others: readonly KeyName[], on: (config: Config) => boolean): Check {
  return {
    at,
    with: others,
    find: (config) => {
      if (!on(config)) return [];
      const missing = others.filter((name) => config[name as keyof Config] === "");
      return missing.length === 0 ? [] : [`needs ${missing.join(" and ")} beside it`];
    },
  };
}
