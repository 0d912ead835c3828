// his <channel> <timestamp> [<limit>]: a page of kept messages as one JSON array.

import type { HistoryPage } from "../../engine/engine.ts";
import { WireError } from "../../proto/errors.ts";
import { checkWords, shorten } from "../../proto/request.ts";
import { parseTimestamp } from "../../proto/timestamps.ts";
import type { Command } from "./command.ts";

const usage = "his <channel> <timestamp> [<limit>]";
const MAX_LIMIT = 10_000;
const DEFAULT_LIMIT = 1_000;

/* his <channel> <timestamp> [<limit>]  → HISTORY <channel> [PARTIAL] <json> */
export const his: Command = {
  usage,
  run(context, words) {
    const { engine, session, maxReplyBytes } = context;
    checkWords(words, 2, 3, usage);
    const [channel, timestamp, limit] = words;
    const fromTs = parseTimestamp(timestamp);
    const page = engine.history(session, channel, fromTs, parseLimit(limit), maxReplyBytes);
    const reply = ({ line }: HistoryPage) => context.replyLine(line);
    if (page instanceof Promise) return page.then(reply);
    reply(page);
  },
};

function parseLimit(word: string | undefined): number {
  if (word === undefined) return DEFAULT_LIMIT;
  const limit = /^[0-9]{1,9}$/.test(word) ? Number(word) : 0;
  if (limit < 1 || limit > MAX_LIMIT) {
    throw new WireError(
      "bad-argument",
      `the limit "${shorten(word)}" is not a number from 1 to ${MAX_LIMIT}`,
    );
  }
  return limit;
}
