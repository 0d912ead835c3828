// Between documents of MongoDB and blocks of MESSAGE lines.

import { Long, ObjectId } from "mongodb";
import { viewOf } from "../core/text_copy.ts";
import type { Block, ChannelBlock } from "../engine/ports/history_store.ts";
import { encodeUtf8, indexOfByte, LF } from "../proto/bytes.ts";
import {
  lineText,
  lineTimestamp,
  MESSAGE_LINE_EXTRA,
  messagePrefix,
  TIMESTAMP_DIGITS,
  writeMessageLine,
} from "../proto/encoder.ts";
import { prefixLengthOf } from "./blocks.ts";
import type { MessageDoc } from "./mongodb_schema.ts";

/** The documents of a block's messages, in their order, and each one's bytes as a line. */
export function* blockDocs(block: ChannelBlock): Generator<{ doc: MessageDoc; bytes: number }> {
  const { app, channel, node, lines, froms } = block;
  const prefixLength = prefixLengthOf(channel);
  let at = 0;
  for (let i = 0; at < lines.length; i++) {
    const lf = indexOfByte(lines, LF, at, lines.length);
    const doc: MessageDoc = {
      _id: new ObjectId(),
      app,
      channel,
      ts: Long.fromNumber(lineTimestamp(lines, at, prefixLength)),
      node,
      msg: lineText(lines, at, lf, prefixLength),
    };
    const from = froms?.[i];
    if (from !== undefined) doc.from = from;
    yield { doc, bytes: lf + 1 - at };
    at = lf + 1;
  }
}

/** A message as it has been read. */
export interface ReadMessage {
  readonly ts: number;
  readonly node: string;
  readonly from: string | undefined;
  /** Its text, UTF-8. */
  readonly text: Uint8Array;
}

/**
 * The message in a document; undefined for one that was taken back, and for what somebody else has
 * put there and would be no line.
 */
export function readMessage(doc: MessageDoc): ReadMessage | undefined {
  const { msg, node, from, gone } = doc;
  if (gone !== undefined || typeof msg !== "string" || typeof node !== "string") return undefined;
  const ts = Number(doc.ts);
  if (!Number.isSafeInteger(ts) || ts < 0 || msg.includes("\n")) return undefined;
  return { ts, node, from: typeof from === "string" ? from : undefined, text: encodeUtf8(msg) };
}

/** Bytes of a message's line in a channel whose prefix is so long. */
export function lineBytes(message: ReadMessage, prefixLength: number): number {
  return prefixLength + message.text.length + MESSAGE_LINE_EXTRA;
}

/** Messages of a channel, in order, as blocks: one for each run of a node's. */
export function toBlocks(channel: string, messages: readonly ReadMessage[]): Block[] {
  const prefix = messagePrefix(encodeUtf8(channel));
  const blocks: Block[] = [];
  let start = 0;
  for (let i = 1; i <= messages.length; i++) {
    if (i < messages.length && messages[i].node === messages[start].node) continue;
    blocks.push(toBlock(prefix, messages.slice(start, i)));
    start = i;
  }
  return blocks;
}

function toBlock(prefix: Uint8Array, run: readonly ReadMessage[]): Block {
  const size = run.reduce((sum, message) => sum + lineBytes(message, prefix.length), 0);
  const lines = new Uint8Array(size);
  const out = { bytes: lines, data: viewOf(lines) };
  let at = 0;
  for (const { ts, text } of run) {
    const digits = encodeUtf8(String(ts).padStart(TIMESTAMP_DIGITS, "0"));
    at = writeMessageLine(out, at, prefix, digits, text, 0, text.length);
  }
  return {
    node: run[0].node,
    lines,
    count: run.length,
    firstTs: run[0].ts,
    lastTs: run[run.length - 1].ts,
    froms: run.some(({ from }) => from !== undefined) ? run.map(({ from }) => from) : null,
  };
}
