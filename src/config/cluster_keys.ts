// The keys of a cluster: how nodes find one another, prove themselves, and what they keep for one another.

import { key, RELOAD } from "./key_spec.ts";
import { count, duration, list, MAX_TIMER_MS, optionalAddress, size, text } from "./value_types.ts";
import { parseDialAddr, parseName, parsePath, parseSecret, ValueFault } from "./values.ts";

const KiB = 2 ** 10;
const GiB = 2 ** 30;

export const CLUSTER_KEYS = {
  etc_servers: key(
    "cluster",
    list({ plural: "addresses", example: "10.0.0.1:2181" }, parseDialAddr, (addr) => addr.text),
    [],
    "ZooKeeper servers. The server stands alone when this and `s2s_peers` are empty and `s2s_listen_addr` is not set; any of the three makes it a node of a cluster, which takes every peer that proves the secret. Between the two: restart.",
    RELOAD,
  ),
  cluster: key(
    "cluster",
    text("a name", parseClusterName),
    "pushd",
    "Name of the cluster: its nodes are found in ZooKeeper under `/pushd/<cluster>/nodes`, and nodes of another cluster are refused.",
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
    { defaultNote: "host of `tcp_listen_addr`, port 2223" },
  ),
  s2s_advertise_addr: key(
    "cluster",
    optionalAddress(parseDialAddr),
    "",
    "What other nodes dial to reach this one.",
    {
      defaultNote: "the listen address, or the machine's own where that is every interface",
    },
  ),
  s2s_peers: key(
    "cluster",
    list({ plural: "addresses", example: "10.0.0.2:2223" }, parseDialAddr, (addr) => addr.text),
    [],
    "A cluster without ZooKeeper: the other nodes, dialled at exactly these addresses; one's own is recognised and skipped. With both lists, who is in both is dialled once.",
    RELOAD,
  ),
  s2s_secret: key(
    "cluster",
    text("a secret", parseSecret, { empty: true }),
    "",
    "Nodes prove to one another that they know it. Empty is allowed on loopback only.",
    { secret: true },
  ),
  s2s_tls_cert: key(
    "cluster",
    text("a path", parsePath, { empty: true }),
    "",
    "Links between nodes over TLS: this node's certificate, in PEM. The three `s2s_tls_…` keys go together.",
  ),
  s2s_tls_key: key(
    "cluster",
    text("a path", parsePath, { empty: true }),
    "",
    "The private key of that certificate, in PEM.",
  ),
  s2s_tls_ca: key(
    "cluster",
    text("a path", parsePath, { empty: true }),
    "",
    "The authority whose certificate both sides must show, in PEM.",
  ),
  s2s_max_skew: key(
    "cluster",
    duration(),
    "500ms",
    "How far the clocks of two nodes may be apart; a link that measures more is warned of. A node that resumes a subscriber reaches back further by so much.",
    RELOAD,
  ),
  s2s_session_timeout: key(
    "cluster",
    duration({ maxMs: MAX_TIMER_MS }),
    "10s",
    "A node that was silent for so long is down. Heartbeats go at a third of it; it is also asked of ZooKeeper as the session's timeout.",
    RELOAD,
  ),
  s2s_replay_bytes: key(
    "cluster",
    size(64 * KiB, 64 * GiB),
    "64MiB",
    "What is kept, per node, for a link that is down.",
    RELOAD,
  ),
  s2s_replay_timeout: key(
    "cluster",
    duration({ maxMs: MAX_TIMER_MS }),
    "2m",
    "How long it is kept.",
    RELOAD,
  ),
  s2s_bloom_threshold: key(
    "cluster",
    count(1),
    "100000",
    "Channels past which a bloom filter stands for the list of what a node is interested in.",
    RELOAD,
  ),
  s2s_channel_peers_max_items: key(
    "cluster",
    count(1),
    "2000000",
    "Channels of other nodes that are remembered.",
    RELOAD,
  ),
};

function parseClusterName(value: string): string {
  parseName(value);
  // It is a node of a path in ZooKeeper.
  if (value.includes("/") || value === "." || value === "..") {
    throw new ValueFault('the name of a cluster holds no "/" and is not "." or ".."');
  }
  return value;
}
