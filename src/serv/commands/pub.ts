// pub <channel> <message>: what is wrong with a line that the parser did not take for a publish.

import { WireError } from "../../proto/errors.ts";
import { nameBytes } from "../../proto/names.ts";
import { checkOptions } from "../../proto/request.ts";
import type { Command } from "./command.ts";

const usage = "pub <channel> <message>";

/* pub <channel> <message>  → PUBLISHED <timestamp>
 *
 * A line with a channel and a message never comes here: the connection publishes it from the
 * parser's bytes, undecoded (see Connection.onPub). */
export const pub: Command = {
  usage,
  run(_context, words) {
    checkOptions(words, usage);
    if (words[0] === "") {
      throw new WireError(
        "bad-argument",
        `an empty channel: put exactly one space behind pub: ${usage}`,
      );
    }
    if (words.length > 0) nameBytes(words[0], "channel");
    if (words.length > 1) throw new WireError("bad-message", `the message is empty: ${usage}`);
    throw new WireError("missing-argument", `usage: ${usage}`);
  },
};
