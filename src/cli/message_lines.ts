// Messages as JSON lines, the form in which history moves between stores.

import { Buffer } from "node:buffer";
import { viewOf } from "../core/text_copy.ts";
import type { ChannelBlock } from "../engine/ports/history_store.ts";
import { encodeUtf8, LF } from "../proto/bytes.ts";
import {
  lineText,
  lineTimestamp,
  MESSAGE_LINE_EXTRA,
  messagePrefix,
  prefixLengthOf,
  TIMESTAMP_DIGITS,
  writeMessageLine,
} from "../proto/encoder.ts";
import { WireError } from "../proto/errors.ts";
import { nameBytes } from "../proto/names.ts";
import { shorten } from "../proto/request.ts";

/** One message, as a line of an export. */
export interface MessageLine {
  app: string;
  channel: string;
  /** Microseconds since the epoch. */
  ts: number;
  node: string;
  from?: string;
  msg: string;
}

/** What is wrong with a line; the message is a sentence for a person. */
export class LineFault extends Error {
  override readonly name = "LineFault";
}

/** The messages of a block as JSON lines. */
export function jsonLines(block: ChannelBlock): string {
  const { app, channel, node, lines, froms } = block;
  const prefixLength = prefixLengthOf(encodeUtf8(channel));
  let text = "";
  for (let at = 0, line = 0; at < lines.length; line++) {
    const lf = lines.indexOf(LF, at);
    const ts = lineTimestamp(lines, at, prefixLength);
    const msg = lineText(lines, at, lf, prefixLength);
    text += JSON.stringify({ app, channel, ts, node, from: froms?.[line], msg }) + "\n";
    at = lf + 1;
  }
  return text;
}

/** The message of a JSON line. Throws a {@link LineFault}. */
export function parseLine(line: string): MessageLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new LineFault(`not JSON: ${shorten(line)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new LineFault(
      `not an object with app, channel, ts, node, from and msg: ${shorten(line)}`,
    );
  }
  const { app, channel, ts, node, from, msg } = value as Record<string, unknown>;
  if (typeof ts !== "number" || !/^\d{16}$/.test(String(ts))) {
    throw new LineFault(`ts: ${shown(ts)} is not a number of microseconds with 16 digits`);
  }
  const message: MessageLine = {
    app: nameOf("app", app),
    channel: nameOf("channel", channel),
    ts,
    node: nameOf("node", node),
    msg: textOf(msg),
  };
  return from === undefined || from === null ? message : { ...message, from: nameOf("from", from) };
}

function nameOf(key: string, value: unknown): string {
  if (typeof value !== "string" || !value.isWellFormed()) {
    throw new LineFault(`${key}: ${shown(value)} is not a name`);
  }
  try {
    nameBytes(value, key);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new LineFault(`${key}: ${error.message}`);
  }
  return value;
}

function textOf(msg: unknown): string {
  if (typeof msg !== "string" || msg === "" || !msg.isWellFormed() || /\n|[\r\0]$/.test(msg)) {
    throw new LineFault(
      `msg: ${shown(msg)} is not a text without line feeds that ends in no CR or NUL`,
    );
  }
  return msg;
}

function shown(value: unknown): string {
  return shorten(JSON.stringify(value) ?? "nothing");
}

/** Messages of one channel and node in order of time, as the block of a store. */
export function blockOf(messages: readonly MessageLine[]): ChannelBlock {
  const [{ app, channel, node, ts: firstTs }] = messages;
  const prefix = messagePrefix(encodeUtf8(channel));
  const texts = messages.map(({ msg }) => encodeUtf8(msg));
  const lines = new Uint8Array(
    texts.reduce((sum, { length }) => sum + prefix.length + length + MESSAGE_LINE_EXTRA, 0),
  );
  const out = { bytes: lines, data: viewOf(lines) };
  let at = 0;
  messages.forEach(({ ts }, i) => {
    const digits = Buffer.from(String(ts).padStart(TIMESTAMP_DIGITS, "0"), "latin1");
    at = writeMessageLine(out, at, prefix, digits, texts[i], 0, texts[i].length);
  });
  return {
    app,
    channel,
    node,
    lines,
    count: messages.length,
    firstTs,
    lastTs: messages[messages.length - 1].ts,
    froms: messages.some(({ from }) => from !== undefined)
      ? messages.map(({ from }) => from)
      : null,
  };
}
