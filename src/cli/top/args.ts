// The call of `pushd top`.

import { Command } from "commander";
import { parseDuration } from "../../config/values.ts";
import { messageOf } from "../../core/message_of.ts";
import { type NotRun, quiet, run, usageError } from "../command.ts";
import { parseStatsUrl } from "./stats_client.ts";

/** What `pushd top` was called with. */
export interface TopCall {
  readonly command: "top";
  /** The URL of the stats door. */
  readonly url: string;
  /** `stats_token`; without it that of the environment. */
  readonly token?: string;
  readonly once: boolean;
  readonly json: boolean;
  /** Between two pictures, ms. */
  readonly intervalMs: number;
}

/** How often it may ask, ms. */
const MIN_INTERVAL_MS = 500;
const MAX_INTERVAL_MS = 3_600_000;

export function parseTop(args: string[]): TopCall | NotRun {
  const command = quiet(new Command("pushd top"))
    .usage("[--stats HOST:PORT] [--once] [--json] [--interval 2s]")
    .description(
      "Shows how a running server is, on a screen that is redrawn in place; q or Ctrl-C ends it. Where " +
        "standard output is no terminal, as text, one block behind the other.",
    )
    .option("--stats <address>", "the server's stats door, host:port or a URL", "127.0.0.1:9020")
    .option(
      "--stats-token <token>",
      "its stats_token; better in the environment, as PUSHD_STATS_TOKEN, where nobody else sees it",
    )
    .option("--once", "print it once, with rates over one second, and end")
    .option("--json", "print a JSON object a line instead of text")
    .option("--interval <duration>", "how often it is asked", "2s")
    .addHelpText("after", "\nExample:\n  pushd top --once --json | jq .rates.delivered\n");
  return run(command, args, () => {
    const { stats, statsToken, once, json, interval } = command.opts<
      { stats: string; statsToken?: string; once?: true; json?: true; interval: string }
    >();
    let url: string;
    let intervalMs: number;
    try {
      url = parseStatsUrl(stats);
    } catch (error) {
      return usageError(`--stats ${JSON.stringify(stats)}: ${messageOf(error)}`);
    }
    try {
      intervalMs = parseDuration(interval);
    } catch (error) {
      return usageError(`--interval ${JSON.stringify(interval)}: ${messageOf(error)}`);
    }
    if (intervalMs < MIN_INTERVAL_MS || intervalMs > MAX_INTERVAL_MS) {
      return usageError(`--interval ${JSON.stringify(interval)}: write 500ms to 1h`);
    }
    const token = statsToken === undefined ? {} : { token: statsToken };
    return { command: "top", url, ...token, once: once === true, json: json === true, intervalMs };
  });
}
