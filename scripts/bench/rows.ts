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
}

export const DEFAULT_ROWS = "1x1,1x10,1x100,4x100x1,1x1@1024";

const DEFAULT_SIZE = 64;
/** The generator's bounds: a message must hold its header, and fit into a line of 64 KiB. */
const MIN_SIZE = 32, MAX_SIZE = 60_000;

/** A row that cannot be understood; the message says what would be right. */
export class RowError extends Error {
  override readonly name = "RowError";
}

/** `<publishers>x<subscribers>` or `<publishers>x<channels>x<subscribers of each>`, then `@<bytes>` or not. */
export function parseRow(id: string): Row {
  const match = /^(\d{1,4})x(?:(\d{1,4})x)?(\d{1,4})(?:@(\d{1,5}))?$/.exec(id);
  const [publishers, channels, subscribers, size] = match === null
    ? []
    : [match[1], match[2] ?? 1, match[3], match[4] ?? DEFAULT_SIZE].map(Number);
  if (!publishers || !channels || !subscribers || size < MIN_SIZE || size > MAX_SIZE) {
    throw new RowError(
      `"${id}" is not a row: write publishers x subscribers (1x100), or publishers x channels x ` +
        `subscribers of each (4x100x1), and @bytes for messages that are not of ${DEFAULT_SIZE} bytes ` +
        `(1x1@1024; ${MIN_SIZE} to ${MAX_SIZE})`,
    );
  }
  return { id, publishers, channels, subscribers, size };
}

export function parseRows(list: string): Row[] {
  return list.split(",").map((id) => parseRow(id.trim()));
}

/** For people: `1 → 100, 64 B`. */
export function rowTitle(row: Row): string {
  const size = row.size % 1024 === 0 ? `${row.size / 1024} KiB` : `${row.size} B`;
  return row.channels === 1
    ? `${row.publishers} → ${row.subscribers}, ${size}`
    : `${row.publishers} publishers, ${row.channels} channels × ${row.subscribers}, ${size}`;
}
