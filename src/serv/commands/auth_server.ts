// auth_server <appId> <secretKey>: the connection becomes that application's server.

import { WireError } from "../../proto/errors.ts";
import { nameBytes } from "../../proto/names.ts";
import { checkWords } from "../../proto/request.ts";
import { enter, failed } from "./auth.ts";
import type { Command } from "./command.ts";

const usage = "auth_server <appId> <secretKey>";

/* auth_server <appId> <secretKey>  → AUTHENTICATED <appId> */
export const authServer: Command = {
  usage,
  beforeAuth: true,
  run(context, words) {
    checkWords(words, 2, 2, usage);
    const [id, secret] = words;
    nameBytes(id, "application id");
    const { auth, engine, session } = context;
    if (!auth.hasApps) {
      throw new WireError(
        "not-permitted",
        "this server has no applications; name them in its configuration (apps)",
      );
    }
    if (!auth.checkSecret(id, secret)) {
      return failed(context, "auth_server", "wrong application or secret");
    }
    enter(context, id);
    session.app = engine.app(id);
    session.user = undefined;
    session.isAppServer = true;
    context.authenticated();
    context.reply(`AUTHENTICATED ${id}`);
  },
};
