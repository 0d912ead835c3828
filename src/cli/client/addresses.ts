// Addresses of servers as people write them.

import type { ServerAddress } from "./conversation.ts";

const DEFAULT_PORT = 2222;

/** `host:port`, `host`, `:port`, `[::1]:port`; null for anything else. */
export function parseServer(text: string, defaultPort = DEFAULT_PORT): ServerAddress | null {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:\s[\]/]*))(?::(\d{1,5}))?$/
    .exec(text) ?? [];
  if (bracketed === undefined && plain === undefined) return null;
  const port = digits === undefined ? defaultPort : Number(digits);
  if (port < 1 || port > 65_535 || text === "") return null;
  return { hostname: bracketed ?? (plain || "localhost"), port };
}
