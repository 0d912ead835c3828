// sub <channel> [<timestamp>]: follows a channel, from now on or from a moment in its history.

import type { ReplayStart } from "../../engine/engine.ts";
import { checkWords } from "../../proto/request.ts";
import { parseTimestamp } from "../../proto/timestamps.ts";
import type { Command } from "./command.ts";

const usage = "sub <channel> [<timestamp>]";

/* sub <channel>              → SUBSCRIBED <channel> | ALREADY SUBSCRIBED <channel>
 * sub <channel> <timestamp>  → SUBSCRIBED <channel> <n> [PARTIAL], then n MESSAGE lines */
export const sub: Command = {
  usage,
  overlaps: (words) => words.length === 1,
  run(context, words) {
    const { engine, session } = context;
    checkWords(words, 1, 2, usage);
    const [channel, timestamp] = words;
    if (timestamp === undefined) {
      const joining = engine.subscribe(session, channel);
      return {
        ready: joining?.ready ?? null,
        finish: () => {
          context.reply(`${joining ? "SUBSCRIBED" : "ALREADY SUBSCRIBED"} ${channel}`);
          joining?.join();
        },
      };
    }
    const replay = engine.subscribeFrom(session, channel, parseTimestamp(timestamp));
    if (replay === undefined) {
      context.reply(`ALREADY SUBSCRIBED ${channel}`);
      return;
    }
    const reply = ({ count, partial, start }: ReplayStart) => {
      context.reply(`SUBSCRIBED ${channel} ${count}${partial ? " PARTIAL" : ""}`);
      start();
    };
    if (replay instanceof Promise) return replay.then(reply);
    reply(replay);
  },
};
