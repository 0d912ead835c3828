// The table of commands, and help, which reads it.

import { checkWords } from "../../proto/request.ts";
import { auth } from "./auth.ts";
import { authServer } from "./auth_server.ts";
import type { Command } from "./command.ts";
import { gettoken } from "./gettoken.ts";
import { hello } from "./hello.ts";
import { his } from "./his.ts";
import { ping } from "./ping.ts";
import { pub } from "./pub.ts";
import { quit } from "./quit.ts";
import { sub } from "./sub.ts";
import { unsub } from "./unsub.ts";

/* help  → HELP <one line naming every command> */
const help: Command = {
  usage: "help",
  beforeAuth: true,
  run(context, words) {
    checkWords(words, 0, 0, "help");
    context.reply(`HELP ${[...commands.values()].map(({ usage }) => usage).join(" | ")}`);
  },
};

/** Every command by its name. */
export const commands: ReadonlyMap<string, Command> = new Map([
  ["sub", sub],
  ["unsub", unsub],
  ["pub", pub],
  ["his", his],
  ["gettoken", gettoken],
  ["auth", auth],
  ["auth_server", authServer],
  ["hello", hello],
  ["ping", ping],
  ["help", help],
  ["quit", quit],
]);
