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
  /** Subscribers are at another server than publishers. */
  linked?: true;
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

/** What keeping messages costs a fan-out: `writing`. */
export interface WritingRow {
  kind: "writing";
  id: string;
}

export type AnyRow = Row | DurableRow | HistoryRow | WritingRow;

export const DEFAULT_ROWS = "fanout,link,durable,his,writing";

/** Names of several rows. */
const GROUPS: Readonly<Record<string, string>> = {
  fanout: "1x1,1x10,1x100,4x100x1,1x1@1024",
  link: "link:1x1,link:1x10,link:1x100,link:4x100x1",
  durable: "durable:1,durable:100,durable:1000,durable:1x32,durable:100x32,durable:1000x32",
  his: "his:cache:1,his:cache:16,his:store:1,his:store:16",
};

const DEFAULT_SIZE = 64;
/** The generator's bounds: a message must hold its header, and fit into a line of 64 KiB. */
const MIN_SIZE = 32, MAX_SIZE = 60_000, MAX_WINDOW = 256;

/** A row that cannot be understood; the message says what would be right. */
export class RowError extends Error {
  override readonly name = "RowError";
}

/**
 * `<publishers>x<subscribers>` or `<publishers>x<channels>x<subscribers of each>`, then `@<bytes>` or not;
 * behind `link:` where subscribers are at another server.
 */
export function parseRow(id: string): Row {
  const match = /^(link:)?(\d{1,4})x(?:(\d{1,4})x)?(\d{1,4})(?:@(\d{1,5}))?$/.exec(id);
  const [publishers, channels, subscribers, size] = match === null
    ? []
    : [match[2], match[3] ?? 1, match[4], match[5] ?? DEFAULT_SIZE].map(Number);
  if (!publishers || !channels || !subscribers || size < MIN_SIZE || size > MAX_SIZE) {
    throw new RowError(
      `"${id}" is not a row: write publishers x subscribers (1x100), or publishers x channels x ` +
        `subscribers of each (4x100x1), and @bytes for messages that are not of ${DEFAULT_SIZE} bytes ` +
        `(1x1@1024; ${MIN_SIZE} to ${MAX_SIZE}), link: and such a row for subscribers that are at ` +
        `another server (link:1x100), durable:100 or durable:100x32 (publishers, each ` +
        `with so many unacknowledged), his:cache:16, his:store:16, writing, or one of the groups ` +
        Object.keys(GROUPS).join(", "),
    );
  }
  const row = { id, publishers, channels, subscribers, size };
  return match?.[1] === undefined ? row : { ...row, linked: true };
}

/** The same row with everybody at one server. */
export function unlinked({ linked: _linked, ...row }: Row): Row {
  return { ...row, id: row.id.replace(/^link:/, "") };
}

export function parseRows(list: string): AnyRow[] {
  return list.split(",").flatMap((text) => {
    const id = text.trim();
    return Object.hasOwn(GROUPS, id) ? GROUPS[id].split(",").map(parseAnyRow) : [parseAnyRow(id)];
  });
}

function parseAnyRow(id: string): AnyRow {
  if (id === "writing") return { kind: "writing", id };
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
  return parseRow(id);
}

/** For people: `1 → 100, 64 B`. */
export function rowTitle(row: Row): string {
  const size = row.size % 1024 === 0 ? `${row.size / 1024} KiB` : `${row.size} B`;
  const title = row.channels === 1
    ? `${row.publishers} → ${row.subscribers}, ${size}`
    : `${row.publishers} publishers, ${row.channels} channels × ${row.subscribers}, ${size}`;
  return row.linked ? `${title}, across a link` : title;
}
