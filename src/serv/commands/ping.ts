// ping: a sign of life.

import { checkWords } from "../../proto/request.ts";
import type { Command } from "./command.ts";

const usage = "ping";

/* ping  → PONG */
export const ping: Command = {
  usage,
  beforeAuth: true,
  run(context, words) {
    checkWords(words, 0, 0, usage);
    context.reply("PONG");
  },
};
