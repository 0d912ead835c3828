// Runs a client command, and says how it ended.

import { messageOf } from "../../core/message_of.ts";
import { pause } from "../../core/pause.ts";
import { untilStopSignal } from "../../core/signals.ts";
import type { ClientArgs, ClientCall } from "../client_args.ts";
import { printError, printOut, printProgress } from "../output.ts";
import { bench, benchText } from "./bench.ts";
import { ClientError, OutputClosed } from "./client_error.ts";
import { printHistory } from "./his.ts";
import { ping } from "./ping.ts";
import { publish } from "./pub.ts";
import type { ClientOptions } from "./servers.ts";
import { follow } from "./sub.ts";

const DONE = 0;
const FAILED = 1;
/** What is printed already gets so long to be written after Ctrl-C, ms. */
const GRACE_MS = 500;

/** Runs it; resolves to the exit code: 0 done, also at Ctrl-C of one that follows, 1 failed. */
export async function runClient(call: ClientCall): Promise<number> {
  try {
    return await run(call);
  } catch (error) {
    if (error instanceof OutputClosed) return DONE;
    if (!(error instanceof ClientError)) throw error;
    printError(error.message);
    return FAILED;
  }
}

async function run(call: ClientCall): Promise<number> {
  const options = {
    ...call,
    ...await optionsOf(call),
    tell: call.command === "bench" ? printProgress : printError,
  };
  switch (options.command) {
    case "sub": {
      const { signal, stopped } = stopSignal(DONE);
      // What is under way, such as a greeting that nobody answers, is not waited for.
      await Promise.race([follow(options, signal), stopped]);
      return DONE;
    }
    case "pub":
      return await publish(options) ? DONE : FAILED;
    case "bench": {
      const { signal } = stopSignal(FAILED);
      const result = await bench(options, signal);
      printOut(options.json ? JSON.stringify(result) : benchText(result));
      const { lost, out_of_order, refused } = result;
      return lost + out_of_order + refused === 0 ? DONE : FAILED;
    }
    case "his":
      await printHistory(options);
      return DONE;
    case "ping":
      printOut(await ping(options));
      return DONE;
  }
}

/** Aborted at Ctrl-C; `stopped` resolves some time behind it, and a second one exits at once. */
function stopSignal(secondCode: number): { signal: AbortSignal; stopped: Promise<void> } {
  const stop = new AbortController();
  const stopped = untilStopSignal(() => Deno.exit(secondCode)).then(async () => {
    stop.abort();
    await pause(GRACE_MS, new AbortController().signal);
  });
  return { signal: stop.signal, stopped };
}

async function optionsOf({ servers, tls, tlsCa, identity }: ClientArgs): Promise<ClientOptions> {
  if (tlsCa === undefined) return { servers, tls, identity, caCerts: [] };
  try {
    return { servers, tls, identity, caCerts: [await Deno.readTextFile(tlsCa)] };
  } catch (error) {
    throw new ClientError(`--tls-ca ${tlsCa}: ${messageOf(error)}`);
  }
}
