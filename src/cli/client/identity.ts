// Who a client is to the server, proved on each connection.

import { messageOf } from "../../core/message_of.ts";
import { ClientError, ConnectionLost } from "./client_error.ts";
import type { Conversation } from "./conversation.ts";

/** Who the client says it is. */
export type Identity =
  | { readonly kind: "nobody" }
  | { readonly kind: "app"; readonly id: string; readonly secretFile: string }
  | { readonly kind: "user"; readonly name: string; readonly token: TokenSource };

/** Where a user's token is from: one that is good for one connection, or a command that prints a new one. */
export type TokenSource =
  | { readonly kind: "given"; readonly token: string; isUsed: boolean }
  | { readonly kind: "command"; readonly command: string };

const COMMAND_TIMEOUT_MS = 30_000;

/**
 * Proves it. Rejects with a {@link ClientError} where that will not work later either, and with a
 * {@link ConnectionLost} where it may.
 */
export async function authenticate(conversation: Conversation, identity: Identity): Promise<void> {
  if (identity.kind === "nobody") return;
  const request = identity.kind === "app"
    ? `auth_server ${identity.id} ${await secretOf(identity.secretFile)}`
    : `auth ${identity.name} ${await tokenOf(identity.token)}`;
  const reply = await conversation.ask(request);
  if (reply.startsWith("AUTHENTICATED ")) return;
  const message = `${conversation.where}: ${reply}`;
  // A store that does not answer will one day.
  if (/^ERROR (storage-unavailable|too-busy) /.test(reply)) throw new ConnectionLost(message);
  throw new ClientError(message);
}

async function secretOf(file: string): Promise<string> {
  let text: string;
  try {
    text = await Deno.readTextFile(file);
  } catch (error) {
    throw new ClientError(`--secret-file ${file}: ${messageOf(error)}`);
  }
  return oneWord(text.replace(/\r?\n$/, ""), `--secret-file ${file}`);
}

async function tokenOf(source: TokenSource): Promise<string> {
  if (source.kind === "command") {
    return oneWord(await firstLineOf(source.command), "--token-command: its first line");
  }
  if (source.isUsed) {
    throw new ClientError(
      "a token is good for one connection, and that is lost; --token-command gets a new one for each",
    );
  }
  source.isUsed = true;
  return oneWord(source.token, "--token");
}

/** What becomes a word of a request must be one: a line end in it would be a request of its own. */
function oneWord(text: string, where: string): string {
  if (text === "") throw new ClientError(`${where} is empty`);
  // deno-lint-ignore no-control-regex
  if (/[\s\u0000-\u001f\u007f]/.test(text)) {
    throw new ClientError(`${where} holds a space, a line end or a control character`);
  }
  return text;
}

async function firstLineOf(command: string): Promise<string> {
  const shell = Deno.build.os === "windows" ? ["cmd", "/c"] : ["/bin/sh", "-c"];
  try {
    const { success, code, stdout } = await new Deno.Command(shell[0], {
      args: [shell[1], command],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
      signal: AbortSignal.timeout(COMMAND_TIMEOUT_MS),
    }).output();
    if (!success) throw new Error(`it ended with ${code}`);
    return new TextDecoder().decode(stdout).split(/\r?\n/, 1)[0];
  } catch (error) {
    throw new ConnectionLost(`--token-command ${JSON.stringify(command)}: ${messageOf(error)}`);
  }
}
