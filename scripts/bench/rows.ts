// The rows of the benchmark: who publishes to whom, and how they are written on the command line.

export interface Row {
  /** As on the command line. */
  id: string;
  publishers: number;
  channels: number;
  /** Subscribers of each channel. */
  subscribers: number;
  /** Bytes of a message. */
  size: number;
  /** So many connections hold the subscriptions of all channels; each channel has its own without it. */
  connections?: number;
  /** Channels are published to by popularity, after Zipf, instead of in turns. */
  zipf?: true;
  /** Subscribers are at another server than publishers. */
  linked?: true;
  /** pushd's JSON form, beside its text form. */
  json?: true;
  /** Everybody is connected over TLS. */
  tls?: true;
  /** Latencies at so many deliveries per second, or at half of what each server can; without it throughput. */
  at?: number | "half";
}

/** Publishers that have every message acknowledged as kept: `durable:100`, `durable:100x32`. */
export interface DurableRow {
  kind: "durable";
  id: string;
  publishers: number;
  /** Messages that each of them may have unacknowledged. */
  window: number;
}

/** Pages of a history: `his:cache:16`. */
export interface HistoryRow {
  kind: "his";
  id: string;
  from: "cache" | "store";
  connections: number;
}

/** What keeping messages costs a fan-out: `writing:1x100`. */
export interface WritingRow {
  kind: "writing";
  id: string;
  row: Row;
}

/** How fast connections are taken (`connect:5000`), and what one costs in memory (`idle:10000`). */
export interface CrowdRow {
  kind: "connect" | "idle";
  id: string;
  connections: number;
  /** Each connection is subscribed to one of so many. */
  channels: number;
}

export type AnyRow = Row | DurableRow | HistoryRow | WritingRow | CrowdRow;

export const DEFAULT_ROWS = "fanout,sizes,json,tls,at,link,durable,his,writing,connect,idle";

/** Names of several rows. */
const GROUPS: Readonly<Record<string, string>> = {
  fanout: "1x1,1x10,1x100,4x1000,4x100x1,1000x1000x1,zipf:4x100000",
  sizes: "1x1@16,1x1@1024,1x1@16384,1x100@16,1x100@1024,1x100@16384",
  json: "json:1x1,json:1x100",
  tls: "tls:1x1,tls:1x100,tls:4x100x1",
  at: "at:20000:1x1,at:half:1x1,at:20000:4x100x1,at:half:4x100x1",
  link: "link:1x1,link:1x10,link:1x100,link:4x100x1",
  durable: "durable:1,durable:100,durable:1000,durable:1x32,durable:100x32,durable:1000x32",
  his: "his:cache:1,his:cache:16,his:store:1,his:store:16",
  writing: "writing:1x1,writing:1x100",
  connect: "connect:5000",
  idle: "idle:10000",
};

const DEFAULT_SIZE = 64;
/** The generator's bounds: a message must hold its header, and fit into a line of 64 KiB. */
const MIN_SIZE = 16, MAX_SIZE = 60_000, MAX_WINDOW = 256;
/** A message that tells when it was due has a longer header. */
const MIN_TIMED_SIZE = 32;
/** What the open files of a usual machine allow, on both sides of the loopback. */
const MAX_CROWD = 19_000;
/** pushd, by default, lets a connection have 10,000 channels. */
const CHANNELS_OF_A_CONNECTION = 5000;

/** A row that cannot be understood; the message says what would be right. */
export class RowError extends Error {
  override readonly name = "RowError";
}

const HELP =
  "write publishers x subscribers (1x100), or publishers x channels x subscribers of each " +
  `(4x100x1), and @bytes for messages that are not of ${DEFAULT_SIZE} bytes (1x1@1024; ${MIN_SIZE} to ` +
  `${MAX_SIZE}); zipf:4x100000 for publishers and channels of which some are popular; before such a row ` +
  "link: for subscribers that are at another server, json: for pushd's JSON form beside its text form, tls: for TLS, " +
  `at:20000: or at:half: for latencies at that load (from ${MIN_TIMED_SIZE} bytes on), writing: for ` +
  "pushd beside each way to keep messages; durable:100 or durable:100x32 (publishers, each with so many " +
  "unacknowledged), his:cache:16, his:store:16, connect:5000 and idle:10000 (connections), " +
  `idle:10000x10000 (and channels; at most ${MAX_CROWD}), or one of the groups ` +
  Object.keys(GROUPS).join(", ");

function noRow(id: string): RowError {
  return new RowError(`"${id}" is not a row: ${HELP}`);
}

/** `at:<rate>:`, `link:`, `json:` or `tls:`, in this order, then the fan-out itself. */
const PREFIXES = /^(?:at:([1-9]\d{0,8}|half):)?(link:)?(json:|tls:)?(.+)$/;

/** A fan-out, with what is written before it. Throws a {@link RowError}. */
export function parseRow(id: string): Row {
  const match = PREFIXES.exec(id);
  if (match === null) throw noRow(id);
  const [, at, link, form, rest] = match;
  const row: Row = { id, ...parseFanOut(id, rest) };
  // Both forms are of one server, of which the generator knows the name; and pairs are linked without TLS.
  if (link !== undefined && form !== undefined) throw noRow(id);
  if (at !== undefined && row.size < MIN_TIMED_SIZE) throw noRow(id);
  if (link !== undefined) row.linked = true;
  if (form === "json:") row.json = true;
  if (form === "tls:") row.tls = true;
  if (at !== undefined) row.at = at === "half" ? at : Number(at);
  return row;
}

function parseFanOut(id: string, text: string): Omit<Row, "id"> {
  const zipf = /^zipf:([1-9]\d{0,3})x([1-9]\d{0,5})$/.exec(text);
  if (zipf !== null) {
    const [publishers, channels] = [zipf[1], zipf[2]].map(Number);
    if (channels > 100_000) throw noRow(id);
    const connections = Math.ceil(channels / CHANNELS_OF_A_CONNECTION);
    return { publishers, channels, subscribers: 1, size: DEFAULT_SIZE, connections, zipf: true };
  }
  const match = /^(\d{1,4})x(?:(\d{1,4})x)?(\d{1,4})(?:@(\d{1,5}))?$/.exec(text);
  if (match === null) throw noRow(id);
  const [publishers, channels, subscribers, size] = [
    match[1],
    match[2] ?? 1,
    match[3],
    match[4] ?? DEFAULT_SIZE,
  ].map(Number);
  if (!publishers || !channels || !subscribers || size < MIN_SIZE || size > MAX_SIZE) {
    throw noRow(id);
  }
  return { publishers, channels, subscribers, size };
}

/** Whether there are so many publishers or channels that each message is work of its own, and a run comes to speed late. */
export function isWide({ publishers, channels }: Row): boolean {
  return publishers >= 1000 || channels >= 1000;
}

/** The same row with everybody at one server. */
export function unlinked({ linked: _linked, ...row }: Row): Row {
  return { ...row, id: row.id.replace(/(^|:)link:/, "$1") };
}

export function parseRows(list: string): AnyRow[] {
  return list.split(",").flatMap((text) => {
    const id = text.trim();
    return Object.hasOwn(GROUPS, id) ? GROUPS[id].split(",").map(parseAnyRow) : [parseAnyRow(id)];
  });
}

function parseAnyRow(id: string): AnyRow {
  if (id.startsWith("writing:")) {
    const row = parseRow(id.slice("writing:".length));
    if (row.linked || row.json || row.tls || row.at === "half") throw noRow(id);
    return { kind: "writing", id, row };
  }
  const durable = /^durable:([1-9]\d{0,3})(?:x([1-9]\d{0,2}))?$/.exec(id);
  const window = Number(durable?.[2] ?? 1);
  if (durable !== null && window <= MAX_WINDOW) {
    return { kind: "durable", id, publishers: Number(durable[1]), window };
  }
  const his = /^his:(cache|store):([1-9]\d{0,3})$/.exec(id);
  if (his !== null) {
    const from = his[1] === "cache" ? "cache" : "store";
    return { kind: "his", id, from, connections: Number(his[2]) };
  }
  const crowd = /^(connect|idle):([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?$/.exec(id);
  if (crowd !== null) {
    const kind = crowd[1] === "connect" ? "connect" : "idle";
    const [connections, channels] = [crowd[2], crowd[3] ?? 1].map(Number);
    if (Math.max(connections, channels) > MAX_CROWD) throw noRow(id);
    return { kind, id, connections, channels };
  }
  return parseRow(id);
}

/** For people: `1 → 100, 64 B`. */
export function rowTitle(row: Row): string {
  const size = row.size % 1024 === 0 ? `${row.size / 1024} KiB` : `${row.size} B`;
  let title = row.channels === 1
    ? `${row.publishers} → ${row.subscribers}, ${size}`
    : `${row.publishers} publishers, ${row.channels} channels × ${row.subscribers}, ${size}`;
  if (row.zipf) title += ", by popularity";
  if (row.json) title += ", text and JSON";
  if (row.tls) title += ", over TLS";
  return row.linked ? `${title}, across a link` : title;
}
