// hello 1 [json]: what the server is and allows, and in which form deliveries come.

import { WireError } from "../../proto/errors.ts";
import { checkWords, shorten } from "../../proto/request.ts";
import { VERSION } from "../../core/version.ts";
import type { Command } from "./command.ts";

const usage = "hello 1 [json]";

/* hello 1 [json]  → HELLO 1 <json> */
export const hello: Command = {
  usage,
  beforeAuth: true,
  run(context, words) {
    const { auth, engine, session, limits } = context;
    checkWords(words, 1, 2, usage);
    const [version, form] = words;
    if (version !== "1") {
      throw new WireError(
        "bad-argument",
        `version "${shorten(version)}" of the protocol is not spoken here; 1 is: ${usage}`,
      );
    }
    if (form !== undefined && form !== "json") {
      throw new WireError(
        "bad-argument",
        `the form "${shorten(form)}" is not known; json is: ${usage}`,
      );
    }
    if (form === "json" && session.form !== "json") {
      // What is already collected goes out in the form that held when it was published.
      engine.closeBatches(session);
      session.form = "json";
    }
    const info = {
      version: VERSION,
      node: engine.node,
      // What is accepted here from now on has a later one: where to resume before anything has come.
      ts: engine.presentTs(),
      features: [
        "json",
        ...(engine.keepsHistory ? ["history"] : []),
        ...(auth.required ? ["auth"] : []),
      ],
      limits: {
        max_line_bytes: limits.maxLineBytes,
        max_pending_bytes: limits.maxPendingBytes,
        max_channels_per_connection: limits.maxChannelsPerConnection,
        session_timeout_ms: limits.sessionTimeoutMs,
      },
    };
    context.reply(`HELLO 1 ${JSON.stringify(info)}`);
  },
};
