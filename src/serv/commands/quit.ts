// quit: the server says BYE and closes.

import { checkWords } from "../../proto/request.ts";
import type { Command } from "./command.ts";

const usage = "quit";

/* quit  → BYE, then the connection closes */
export const quit: Command = {
  usage,
  beforeAuth: true,
  run(context, words) {
    checkWords(words, 0, 0, usage);
    context.reply("BYE");
    context.quit();
  },
};
