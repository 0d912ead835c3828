// The keys of the server itself: where clients come in, limits, authentication, statistics, web, stopping.

import { key, RELOAD } from "./key_spec.ts";
import {
  address,
  appList,
  count,
  duration,
  flag,
  list,
  MAX_TIMER_MS,
  oneOf,
  optionalAddress,
  optionalCount,
  size,
  text,
} from "./value_types.ts";
import {
  parseCidr,
  parseHost,
  parseName,
  parseOrigin,
  parsePath,
  parseSecret,
  ValueFault,
} from "./values.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;

const NO_WEB_DOOR = "no web door is opened";

/** Where clients come in, limits, and who may connect. */
export const SERV_KEYS = {
  tcp_listen_addr: key(
    "clients",
    address(),
    "127.0.0.1:2222",
    'Where clients come in. An address that others can reach together with `auth: "off"` is allowed and warned of at start.',
  ),
  tls_listen_addr: key(
    "clients",
    optionalAddress(),
    "",
    'A second door for clients: the same protocol over TLS. `""` is off; needs `tls_cert` and `tls_key`.',
  ),
  tls_cert: key(
    "clients",
    text("a path", parsePath, { empty: true }),
    "",
    "File with the certificate and those between it and its authority, in PEM.",
    RELOAD,
  ),
  tls_key: key(
    "clients",
    text("a path", parsePath, { empty: true }),
    "",
    "File with the private key of `tls_cert`, in PEM.",
    RELOAD,
  ),
  proxy_protocol: key(
    "clients",
    flag(),
    false,
    "Expect the PROXY protocol, version 1 or 2, on the doors for clients, from `trusted_proxies` only.",
  ),
  trusted_proxies: key(
    "clients",
    list({ plural: "addresses or CIDRs", example: "10.0.0.0/8" }, parseCidr),
    [],
    "Addresses or CIDRs whose PROXY header or `X-Forwarded-For` is believed.",
    RELOAD,
  ),
  tcp_backlog: key(
    "clients",
    count(1, 65535),
    "4096",
    "Connections that may wait to be accepted. The kernel's `somaxconn` caps it; the log says so when it does.",
  ),

  session_timeout: key(
    "limits",
    duration({ zero: true }),
    "10m",
    "A client that sent nothing for so long gets `ERROR idle-timeout` and is closed, told 30 s before (at half of it when it is shorter than a minute). 0: never.",
    RELOAD,
  ),
  max_connections: key(
    "limits",
    optionalCount(1, 100_000_000),
    null,
    "Connections at one time. Beyond it a client gets `ERROR too-busy` and is closed. The log says which limit gave the number.",
    { ...RELOAD, defaultNote: "from the open-file limit" },
  ),
  max_connections_per_address: key(
    "limits",
    count(0),
    "0",
    "Connections from one address; `ERROR too-busy` beyond it. 0: no limit.",
    RELOAD,
  ),
  max_line_bytes: key(
    "limits",
    size(512, 16 * MiB),
    "64KiB",
    "Longest request line, its line end not counted; a longer one is `ERROR line-too-long`.",
    RELOAD,
  ),
  max_pending_bytes: key(
    "limits",
    size(512, 2 * GiB),
    "8MiB",
    "What may wait for one client before it is cut off as `slow-consumer`. At least `max_line_bytes`.",
    RELOAD,
  ),
  write_timeout: key(
    "limits",
    duration(),
    "10s",
    "A write that makes no progress for so long closes the connection as `slow-consumer`.",
    RELOAD,
  ),
  max_channels_per_connection: key(
    "limits",
    count(1),
    "10000",
    "Channels that one connection may be subscribed to; `ERROR too-many-channels` beyond it.",
    RELOAD,
  ),
  max_publishes_per_second: key(
    "limits",
    count(0),
    "0",
    "Per connection. Beyond it the server reads that connection more slowly; it refuses nothing. 0: no limit.",
    RELOAD,
  ),

  auth: key(
    "auth",
    oneOf("off", "on"),
    "off",
    '`"on"`: before authentication only `auth`, `auth_server`, `hello`, `ping`, `help` and `quit` are served. `"off"`: every command works without it, for a first try and for trusted networks.',
  ),
  auth_timeout: key(
    "auth",
    duration(),
    "10s",
    'The time that a client has to authenticate with `auth: "on"`.',
    RELOAD,
  ),
  token_ttl: key("auth", duration(), "10m", "Life of a token that is not used.", RELOAD),
  max_unused_tokens: key(
    "auth",
    count(1),
    "1000000",
    "Tokens given out and not used, per application; beyond it `gettoken` is `ERROR too-busy`.",
    RELOAD,
  ),
  apps: key(
    "auth",
    appList(parseAppId),
    [],
    "The applications, each with channels, users, tokens and history of its own. An id is a name by the protocol's rules, unique and not `default`; a secret is one word. When an application is taken out, its connections are closed with `ERROR auth-failed`; a changed secret leaves them.",
    { ...RELOAD, secret: true },
  ),
};

/** What is served by HTTP, and stopping. */
export const HTTP_KEYS = {
  stats_listen_addr: key(
    "stats",
    optionalAddress(),
    "127.0.0.1:9020",
    'Where the statistics are served by HTTP. `""` is off.',
  ),
  stats_token: key(
    "stats",
    text("a token", parseSecret, { empty: true }),
    "",
    "With it, everything but `/healthz` and `/readyz` wants `Authorization: Bearer` with this token, or Basic with it as the password, so that a browser asks for it. Listening where others can reach it without a token is warned of.",
    { ...RELOAD, secret: true },
  ),
  prof_listen_addr: key(
    "stats",
    optionalAddress(),
    "",
    'Where profiles are served by HTTP (`/profile?seconds=10`, `/heap`), on loopback only. `""` is off.',
  ),
  metrics_logfile: key(
    "stats",
    text("a path", parsePath, { empty: true }),
    "",
    'File to which a line of JSON with all counters is appended every `stats_output_interval`. `""` is off.',
    RELOAD,
  ),
  stats_output_interval: key(
    "stats",
    duration({ minMs: 1000, maxMs: MAX_TIMER_MS }),
    "2m",
    "How often a line goes to `metrics_logfile`.",
    RELOAD,
  ),

  long_polling_listen_addr: key(
    "web",
    optionalAddress(),
    "",
    'The web door: long polling, Server-Sent Events, WebSocket and publishing by HTTP. `""` is off.',
    { notYet: NO_WEB_DOOR },
  ),
  long_polling_tls: key(
    "web",
    flag(),
    false,
    "The web door over TLS, with `tls_cert` and `tls_key`.",
    { notYet: NO_WEB_DOOR },
  ),
  long_polling_session_timeout: key(
    "web",
    duration(),
    "1m",
    "A poll is answered with `[]` after so long.",
    { ...RELOAD, notYet: NO_WEB_DOOR },
  ),
  allowed_hosts: key(
    "web",
    list({ plural: "hosts", example: "push.example.org" }, parseHost),
    [],
    "Further `Host`s that the HTTP doors on loopback take, as behind a reverse proxy. A door on loopback takes `localhost`, an address, its listen address, these, and hosts of `web_origins`; so no page can reach it by renaming itself.",
    RELOAD,
  ),
  web_session_ttl: key("web", duration(), "1h", "Life of a web session since its last use.", {
    ...RELOAD,
    notYet: NO_WEB_DOOR,
  }),
  web_origins: key(
    "web",
    list({ plural: "origins", example: "https://chat.example.org" }, parseOrigin),
    [],
    '`Origin`s that may use the web door, beside its own; `["*"]` is all. Their hosts are also taken as `Host` by the doors on loopback.',
    RELOAD,
  ),

  drain_timeout: key(
    "stop",
    duration({ maxMs: MAX_TIMER_MS }),
    "10s",
    "How long an orderly stop may take; then what is left is cut off.",
    RELOAD,
  ),
};

function parseAppId(value: string): string {
  parseName(value);
  if (value === "default") {
    throw new ValueFault('"default" is the application of who never authenticated; write another');
  }
  return value;
}
