// gettoken <username>: a token that lets one connection authenticate as that user.

import { WireError } from "../../proto/errors.ts";
import { nameBytes } from "../../proto/names.ts";
import { checkWords } from "../../proto/request.ts";
import type { Command } from "./command.ts";

const usage = "gettoken <username>";

/* gettoken <username>  → TOKEN <username> <token> */
export const gettoken: Command = {
  usage,
  async run(context, words) {
    const { auth, session } = context;
    checkWords(words, 1, 1, usage);
    const [user] = words;
    nameBytes(user, "user name");
    if (auth.required && !session.isAppServer) {
      context.refused("gettoken", "not an application's server");
      throw new WireError(
        "not-permitted",
        "only an application's server (auth_server) may ask for tokens",
      );
    }
    context.reply(`TOKEN ${user} ${await auth.issue(session.app.id, user)}`);
  },
};
