// The table of every key of the configuration: type, default, whether a reload applies it, meaning.

import {
  address,
  appList,
  count,
  duration,
  flag,
  list,
  oneOf,
  oneOfCounts,
  optionalAddress,
  optionalCount,
  type Raw,
  size,
  text,
  type ValueType,
} from "./value_types.ts";
import {
  parseCidr,
  parseDialAddr,
  parseHost,
  parseMongoUrl,
  parseName,
  parseOrigin,
  parsePath,
  parseSecret,
  ValueFault,
} from "./values.ts";

/** What is known of a key beside its type. */
export interface KeySpec<T = unknown> {
  readonly group: Group;
  readonly type: ValueType<T>;
  /** In the form of the file; null where the server works the default out, see `defaultNote`. */
  readonly default: Raw;
  /** What the default is, where it is no fixed value. */
  readonly defaultNote?: string;
  /** Whether a reload applies a changed value; otherwise a restart does. */
  readonly reload: boolean;
  /** Sentences for docs/configuration.md, in which words in backticks are code. */
  readonly meaning: string;
  /** Never printed. */
  readonly secret: boolean;
  /** What happens instead, for a key (or, as a function, a value) that this version cannot serve yet. */
  readonly notYet?: string | ((value: Raw) => string | null);
}

/** The groups of docs/configuration.md, in its order. */
export const GROUPS = {
  clients: "Where clients come in",
  limits: "Limits",
  auth: "Who may connect",
  history: "History",
  cluster: "Cluster",
  stats: "Statistics",
  web: "Web door",
  stop: "Stopping",
} as const;

export type Group = keyof typeof GROUPS;

/** Whether a reload is part of this version; the keys say in any case what it will apply. */
export const RELOAD_NOT_YET = true;

/** Keys of the original that are read and mean nothing any more. */
export const WITHOUT_EFFECT: readonly string[] = [
  "redis_offline",
  "serv_initial_goroutine_num",
  "s2s_initial_goroutine_num",
];

const KiB = 2 ** 10;
const MiB = 2 ** 20;
const GiB = 2 ** 30;

const NO_CLUSTER = "the server stands alone";
const NO_TLS = "clients are served without TLS, at tcp_listen_addr";
const NO_WEB_DOOR = "no web door is opened";
const NO_SQLITE = "history is kept in memory";
const NO_STORE_QUEUE = "a history in memory is written at once, so nothing waits for it";
const NO_RETENTION = "the history in memory is bounded by max_cache_msgs_every_channel alone";

const PEERS = { plural: "addresses", example: "10.0.0.2:2223" };
const RELOAD = { reload: true };

function key<T>(
  group: Group,
  type: ValueType<T>,
  fallback: Raw,
  meaning: string,
  more: Partial<Pick<KeySpec<T>, "reload" | "secret" | "notYet" | "defaultNote">> = {},
): KeySpec<T> {
  return { group, type, default: fallback, meaning, reload: false, secret: false, ...more };
}

/** Every key by its name in the file; one in a section has the section's name in front. */
export const KEYS = {
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
    { notYet: NO_TLS },
  ),
  tls_cert: key(
    "clients",
    text("a path", parsePath, { empty: true }),
    "",
    "File with the certificate and those between it and its authority, in PEM.",
    { ...RELOAD, notYet: NO_TLS },
  ),
  tls_key: key(
    "clients",
    text("a path", parsePath, { empty: true }),
    "",
    "File with the private key of `tls_cert`, in PEM.",
    { ...RELOAD, notYet: NO_TLS },
  ),
  proxy_protocol: key(
    "clients",
    flag(),
    false,
    "Expect the PROXY protocol, version 1 or 2, on the doors for clients, from `trusted_proxies` only.",
    { notYet: "connections are taken as coming from the address that they come from" },
  ),
  trusted_proxies: key(
    "clients",
    list({ plural: "addresses or CIDRs", example: "10.0.0.0/8" }, parseCidr),
    [],
    "Addresses or CIDRs whose PROXY header or `X-Forwarded-For` is believed.",
    { ...RELOAD, notYet: "no proxy's word is taken for the address of a client" },
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
    "Beyond it a client gets `ERROR too-busy` and is closed. The log says which limit gave the number.",
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

  msg_storage: key(
    "history",
    oneOf("memory", "sqlite", "mongodb", ""),
    "memory",
    'Where messages are kept: `"memory"` (what the cache below holds and nothing else), `"sqlite"` (a file), `"mongodb"` (shared by all nodes of a cluster), or `""` for nowhere: `his` and `sub` with a timestamp are then `ERROR history-off`.',
    {
      notYet: (value) =>
        value === "sqlite" || value === "mongodb"
          ? "history is kept in memory, and is gone after a restart"
          : null,
    },
  ),
  msg_storage_flush_policy: key(
    "history",
    oneOfCounts(0, 1),
    "0",
    "0: `PUBLISHED` is sent after the commit that holds the message. 1: at once, with a commit every second.",
    { ...RELOAD, notYet: NO_STORE_QUEUE },
  ),
  max_storage_outstanding_msg: key(
    "history",
    count(1),
    "100000",
    "Messages accepted and not yet stored; at this bound, or that in bytes, the publisher is made to wait.",
    { ...RELOAD, notYet: NO_STORE_QUEUE },
  ),
  max_storage_outstanding_bytes: key(
    "history",
    size(64 * KiB, 4 * GiB),
    "64MiB",
    "The same bound in bytes. At least `max_line_bytes`.",
    { ...RELOAD, notYet: NO_STORE_QUEUE },
  ),
  msg_storage_write_buffer_size: key(
    "history",
    count(1),
    "100000",
    "Messages that may wait to be stored with `msg_storage_flush_policy: 1`.",
    { ...RELOAD, notYet: NO_STORE_QUEUE },
  ),
  msg_retention: key(
    "history",
    duration({ zero: true }),
    "0",
    "Messages older than this are deleted in the background, except while the wall clock has just jumped. 0: all are kept.",
    { ...RELOAD, notYet: NO_RETENTION },
  ),
  msg_retention_per_channel: key(
    "history",
    count(0),
    "0",
    "Newest messages that are kept of a channel. 0: all.",
    { ...RELOAD, notYet: NO_RETENTION },
  ),
  max_cache_msgs_every_channel: key(
    "history",
    count(1, 10_000_000),
    "3000",
    "Newest messages of a channel that are kept in memory for `his`.",
    RELOAD,
  ),
  max_cache_bytes: key(
    "history",
    size(64 * KiB, 64 * GiB),
    "256MiB",
    "Bound of that cache over all channels. At least `max_line_bytes`.",
    RELOAD,
  ),
  pubsub_channel_max_items: key(
    "history",
    count(1),
    "2000000",
    "Channels with a cache and no subscriber that are remembered; the one not used for longest goes first.",
    RELOAD,
  ),
  "sqlite.path": key(
    "history",
    text("a path", parsePath),
    "pushd.db",
    'The file for `msg_storage: "sqlite"`. A second process on the same file is refused.',
    { notYet: NO_SQLITE },
  ),
  "mongodb.addr": key(
    "history",
    address(parseDialAddr),
    "127.0.0.1:27017",
    'The server for `msg_storage: "mongodb"`.',
    { notYet: NO_SQLITE },
  ),
  "mongodb.url": key(
    "history",
    text("a connection string", parseMongoUrl, { empty: true }),
    "",
    "A full connection string, `mongodb://…`; it wins over `mongodb.addr`.",
    { secret: true, notYet: NO_SQLITE },
  ),
  "mongodb.database": key(
    "history",
    text("the name of a database", parseDatabase),
    "pushd",
    "Name of the database.",
    { notYet: NO_SQLITE },
  ),
  "mongodb.username": key(
    "history",
    text("a user", (value) => value, { empty: true }),
    "",
    "User at the database, where it asks for one.",
    { notYet: NO_SQLITE },
  ),
  "mongodb.password": key(
    "history",
    text("a password", (value) => value, { empty: true }),
    "",
    "Password of that user.",
    { secret: true, notYet: NO_SQLITE },
  ),
  "mongodb.conn_timeout": key(
    "history",
    duration(),
    "5s",
    "How long connecting to the database may take.",
    { notYet: NO_SQLITE },
  ),
  "mongodb.sync_timeout": key(
    "history",
    duration(),
    "5s",
    "How long to look for a database server that can be used.",
    { notYet: NO_SQLITE },
  ),
  "mongodb.operation_timeout": key(
    "history",
    duration(),
    "5s",
    "How long one read or write of the database may take.",
    { notYet: NO_SQLITE },
  ),

  etc_servers: key(
    "cluster",
    list({ plural: "addresses", example: "10.0.0.1:2181" }, parseDialAddr, (addr) => addr.text),
    [],
    "ZooKeeper servers. The server stands alone when this and `s2s_peers` are empty and `s2s_listen_addr` is not set; any of the three makes it a node of a cluster, which takes every peer that proves the secret. Between the two: restart.",
    { ...RELOAD, notYet: NO_CLUSTER },
  ),
  cluster: key(
    "cluster",
    text("a name", parseClusterName),
    "pushd",
    "Name of the cluster: its nodes are found in ZooKeeper under `/pushd/<cluster>/nodes`, and nodes of another cluster are refused.",
    { notYet: NO_CLUSTER },
  ),
  node_id: key(
    "cluster",
    text("a name", parseName, { empty: true }),
    "",
    "Name of this node, unique in the cluster. A second one that is alive is refused at start.",
    { defaultNote: "host name and port of `tcp_listen_addr`" },
  ),
  s2s_listen_addr: key(
    "cluster",
    optionalAddress(),
    "",
    "Where other nodes come in. Listened on only in a cluster.",
    { defaultNote: "host of `tcp_listen_addr`, port 2223", notYet: NO_CLUSTER },
  ),
  s2s_advertise_addr: key(
    "cluster",
    optionalAddress(parseDialAddr),
    "",
    "What other nodes dial to reach this one.",
    {
      defaultNote: "the listen address, or the machine's own where that is every interface",
      notYet: NO_CLUSTER,
    },
  ),
  s2s_peers: key(
    "cluster",
    list(PEERS, parseDialAddr, (addr) => addr.text),
    [],
    "A cluster without ZooKeeper: the other nodes, dialled at exactly these addresses; one's own is recognised and skipped. With both lists, who is in both is dialled once.",
    { ...RELOAD, notYet: NO_CLUSTER },
  ),
  s2s_secret: key(
    "cluster",
    text("a secret", parseSecret, { empty: true }),
    "",
    "Nodes prove to one another that they know it. Empty is allowed on loopback only.",
    { secret: true, notYet: NO_CLUSTER },
  ),
  s2s_tls_cert: key(
    "cluster",
    text("a path", parsePath, { empty: true }),
    "",
    "Links between nodes over TLS: this node's certificate, in PEM. The three `s2s_tls_…` keys go together.",
    { notYet: NO_CLUSTER },
  ),
  s2s_tls_key: key(
    "cluster",
    text("a path", parsePath, { empty: true }),
    "",
    "The private key of that certificate, in PEM.",
    { notYet: NO_CLUSTER },
  ),
  s2s_tls_ca: key(
    "cluster",
    text("a path", parsePath, { empty: true }),
    "",
    "The authority whose certificate both sides must show, in PEM.",
    { notYet: NO_CLUSTER },
  ),
  s2s_max_skew: key(
    "cluster",
    duration(),
    "500ms",
    "How far the clocks of two nodes may be apart; a link that measures more is warned of. A node that resumes a subscriber reaches back further by so much.",
    { ...RELOAD, notYet: NO_CLUSTER },
  ),
  s2s_session_timeout: key(
    "cluster",
    duration(),
    "10s",
    "A node that was silent for so long is down. Heartbeats go at a third of it; it is also asked of ZooKeeper as the session's timeout.",
    { ...RELOAD, notYet: NO_CLUSTER },
  ),
  s2s_replay_bytes: key(
    "cluster",
    size(64 * KiB, 64 * GiB),
    "64MiB",
    "What is kept, per node, for a link that is down.",
    { ...RELOAD, notYet: NO_CLUSTER },
  ),
  s2s_replay_timeout: key("cluster", duration(), "2m", "How long it is kept.", {
    ...RELOAD,
    notYet: NO_CLUSTER,
  }),
  s2s_bloom_threshold: key(
    "cluster",
    count(1),
    "100000",
    "Channels past which a bloom filter stands for the list of what a node is interested in.",
    { ...RELOAD, notYet: NO_CLUSTER },
  ),
  s2s_channel_peers_max_items: key(
    "cluster",
    count(1),
    "2000000",
    "Channels of other nodes that are remembered.",
    { ...RELOAD, notYet: NO_CLUSTER },
  ),

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
    { notYet: "no profiles are served" },
  ),
  metrics_logfile: key(
    "stats",
    text("a path", parsePath, { empty: true }),
    "",
    'File to which a line of JSON is appended every `stats_output_interval`. `""` is off.',
    { ...RELOAD, notYet: "no metrics are written to a file" },
  ),
  stats_output_interval: key(
    "stats",
    duration({ minMs: 1000 }),
    "2m",
    "How often a line goes to `metrics_logfile`.",
    { ...RELOAD, notYet: "no metrics are written to a file" },
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
    '`Origin`s that may use the web door, beside its own; `["*"]` is all.',
    RELOAD,
  ),

  drain_timeout: key("stop", duration(), "10s", "Bound of an orderly stop.", RELOAD),
};

function parseAppId(value: string): string {
  parseName(value);
  if (value === "default") {
    throw new ValueFault('"default" is the application of who never authenticated; write another');
  }
  return value;
}

function parseClusterName(value: string): string {
  parseName(value);
  // It is a node of a path in ZooKeeper.
  if (value.includes("/") || value === "." || value === "..") {
    throw new ValueFault('the name of a cluster holds no "/" and is not "." or ".."');
  }
  return value;
}

function parseDatabase(value: string): string {
  if (/[/\\. "$*<>:|?\0]/.test(value) || value.length > 63) {
    throw new ValueFault(
      'the name of a database has at most 63 characters, none of / \\ . space " $',
    );
  }
  return value;
}
