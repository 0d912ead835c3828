// auth <username> <token>: the connection becomes that user.

import { WireError } from "../../proto/errors.ts";
import { nameBytes } from "../../proto/names.ts";
import { checkWords } from "../../proto/request.ts";
import type { Command, CommandContext } from "./command.ts";

const usage = "auth <username> <token>";

/* auth <username> <token>  → AUTHENTICATED <username> */
export const auth: Command = {
  usage,
  beforeAuth: true,
  async run(context, words) {
    checkWords(words, 2, 2, usage);
    const [user, token] = words;
    nameBytes(user, "user name");
    const { auth, engine, session } = context;
    const app = await auth.find(user, token);
    if (app === undefined) return failed(context, "auth", "wrong user or token");
    enter(context, app);
    if (!await auth.take(token)) return failed(context, "auth", "token already used");
    // A reload may have taken it out meanwhile.
    if (!auth.isKnown(app)) return failed(context, "auth", "the application is gone");
    session.app = engine.app(app);
    session.user = user;
    session.isAppServer = false;
    context.authenticated();
    context.reply(`AUTHENTICATED ${user}`);
  },
};

/** Checks that the session may move into the application `app`. Throws `not-permitted`. */
export function enter({ session }: CommandContext, app: string): void {
  if (app === session.app.id || session.subscriptions.size === 0) return;
  throw new WireError(
    "not-permitted",
    `this connection follows channels of another application; unsub from all of them first`,
  );
}

/** Refuses a wrong try: at once at first, later ever more slowly, and never saying what was wrong. */
export function failed(
  context: CommandContext,
  command: string,
  reason: string,
): Promise<void> | never {
  context.refused(command, reason);
  const error = new WireError("auth-failed", "these credentials are not good (any more)");
  const delayMs = context.auth.failureDelayMs(context.session.address);
  if (delayMs === 0) throw error;
  return new Promise((_, reject) => setTimeout(() => reject(error), delayMs));
}
