// unsub <channel>: ends a subscription; no message of the channel follows the reply.

import { checkWords } from "../../proto/request.ts";
import type { Command } from "./command.ts";

const usage = "unsub <channel>";

/* unsub <channel>  → UNSUBSCRIBED <channel> | NOT SUBSCRIBED <channel> */
export const unsub: Command = {
  usage,
  run(context, words) {
    const { engine, session } = context;
    checkWords(words, 1, 1, usage);
    const [channel] = words;
    const was = engine.unsubscribe(session, channel);
    context.reply(`${was ? "UNSUBSCRIBED" : "NOT SUBSCRIBED"} ${channel}`);
  },
};
