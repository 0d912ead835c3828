// pushd ping: whether a server is there.

import { ClientError } from "./client_error.ts";
import { type ClientOptions, Servers } from "./servers.ts";

/** What it is called with. */
export interface PingOptions extends ClientOptions {
  /** A JSON object instead of a sentence. */
  readonly json: boolean;
}

/** How long the server has for everything, ms. */
const WITHIN_MS = 8000;

/** Resolves to what is to be printed. Rejects with a {@link ClientError} where there is no answer in time. */
export async function ping(options: PingOptions): Promise<string> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new ClientError(`no answer within ${WITHIN_MS / 1000} s`)),
      WITHIN_MS,
    );
  });
  try {
    return await Promise.race([ask(options), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function ask(options: PingOptions): Promise<string> {
  const { conversation, hello } = await new Servers(options).reach(() => ({ onUnasked() {} }));
  try {
    const startMs = performance.now();
    const reply = await conversation.ask("ping");
    const ms = Math.round((performance.now() - startMs) * 1000) / 1000;
    if (reply !== "PONG") throw new ClientError(`${conversation.where}: ${reply}`);
    const { where } = conversation;
    return options.json
      ? JSON.stringify({ server: where, node: hello.node, ms })
      : `${hello.node} at ${where} answers within ${ms} ms`;
  } finally {
    conversation.close();
  }
}
