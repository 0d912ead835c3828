// Parsers of the values that stand in a configuration: text in, a checked value out.

import { isIP, isIPv6 } from "node:net";
import { isHostName } from "../core/host_port.ts";

/** Where a listener binds, or a peer is dialled. */
export interface ListenAddr {
  /**
   * Host name or address, without brackets; an IPv6 address in its shortest form. `"::"` for `:port`,
   * which is every interface.
   */
  hostname: string;
  /** 0–65535; 0 takes a free port. */
  port: number;
  /** As it was written, such as `":2222"` or `"[::1]:2222"`. */
  text: string;
}

/** A value that cannot be taken; the message says what would be right and never holds the value. */
export class ValueFault extends Error {
  override name = "ValueFault";
}

/** Longest duration, so that sums of a few stay exact: 100 years, in milliseconds. */
const MAX_DURATION_MS = 876_000 * 3_600_000;
const DURATION = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;

/** `500ms`, `5s`, `2m`, `1h30m`, or `0`: milliseconds. Throws a {@link ValueFault}. */
export function parseDuration(text: string): number {
  if (text === "0") return 0;
  const parts = DURATION.exec(text);
  if (text === "" || parts === null) {
    throw new ValueFault(
      "not a duration; write whole numbers with a unit, such as 500ms, 5s, 2m or 1h30m",
    );
  }
  const [h, m, s, ms] = parts.slice(1).map((digits) => Number(digits ?? 0));
  const totalMs = h * 3_600_000 + m * 60_000 + s * 1000 + ms;
  if (totalMs > MAX_DURATION_MS) throw new ValueFault("longer than 876000h, which is 100 years");
  return totalMs;
}

/** The inverse of {@link parseDuration}: `5400000` is `1h30m`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0";
  const parts: [number, string][] = [
    [Math.floor(ms / 3_600_000), "h"],
    [Math.floor(ms / 60_000) % 60, "m"],
    [Math.floor(ms / 1000) % 60, "s"],
    [ms % 1000, "ms"],
  ];
  return parts.filter(([n]) => n > 0).map(([n, unit]) => `${n}${unit}`).join("");
}

const SIZE_UNITS: Record<string, number> = { "": 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** `64KiB`, `8MiB`, `1GiB`, or plain bytes: bytes. Throws a {@link ValueFault}. */
export function parseSize(text: string): number {
  const parts = /^(0|[1-9]\d*)(KiB|MiB|GiB)?$/.exec(text);
  if (parts === null) {
    const meant = likelySize(text);
    throw new ValueFault(
      `not a size; write ${meant === null ? "64KiB, 8MiB, 1GiB" : meant} or a number of bytes`,
    );
  }
  const bytes = Number(parts[1]) * SIZE_UNITS[parts[2] ?? ""];
  if (!Number.isSafeInteger(bytes)) throw new ValueFault("more than can be counted; write less");
  return bytes;
}

/** What somebody meant who wrote `64kb` or `1.5MiB`, in the form that is read; null when unclear. */
function likelySize(text: string): string | null {
  const parts = /^(\d+(?:\.\d+)?)\s*([kmg])i?b?$/i.exec(text);
  if (parts === null) return null;
  const bytes = Number(parts[1]) * SIZE_UNITS[`${parts[2].toUpperCase()}iB`];
  return Number.isSafeInteger(bytes) && bytes > 0 ? formatSize(bytes) : null;
}

/** The inverse of {@link parseSize}: `65536` is `64KiB`, `1000` is `1000`. */
export function formatSize(bytes: number): string {
  for (const unit of ["GiB", "MiB", "KiB"]) {
    if (bytes > 0 && bytes % SIZE_UNITS[unit] === 0) return `${bytes / SIZE_UNITS[unit]}${unit}`;
  }
  return `${bytes}`;
}

/** A plain decimal integer. Throws a {@link ValueFault} for `0x10`, `1e3`, `1.5`, `-1`, `007`. */
export function parseCount(text: string): number {
  if (!/^(0|[1-9]\d{0,15})$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw new ValueFault("not a whole number; write decimal digits only, such as 4096");
  }
  return Number(text);
}

/** `host:port`, `:port` or `[::1]:port`. Throws a {@link ValueFault}. */
export function parseListenAddr(text: string): ListenAddr {
  const parts = /^(.*):(\d+)$/s.exec(text);
  if (parts === null) {
    throw new ValueFault(
      /^\d{1,5}$/.test(text)
        ? `not an address; write ":${text}" for every interface, or "127.0.0.1:${text}"`
        : isIP(text) !== 0 || isHostName(text)
        ? "an address without a port; write host:port"
        : 'not an address; write host:port, ":port" for every interface, or [::1]:port',
    );
  }
  const port = Number(parts[2]);
  if (parts[2].length > 5 || port > 65535) {
    throw new ValueFault("a port is a number from 0 to 65535");
  }
  return { hostname: parseAddrHost(parts[1]), port, text };
}

/** `host:port` of something to connect to: a host and a port that is not 0 are needed. */
export function parseDialAddr(text: string): ListenAddr {
  const addr = parseListenAddr(text);
  if (addr.hostname === "::" || addr.hostname === "0.0.0.0") {
    throw new ValueFault("an address to connect to needs a host; write host:port");
  }
  if (addr.port === 0) {
    throw new ValueFault("an address to connect to needs a port from 1 to 65535");
  }
  return addr;
}

function parseAddrHost(host: string): string {
  // Listening on "::" takes IPv4 too; "" is not accepted by the system, "0.0.0.0" is IPv4 alone.
  if (host === "") return "::";
  if (host === "*") throw new ValueFault('for every interface write ":port", without the "*"');
  if (host.startsWith("[") && host.endsWith("]")) {
    const inner = host.slice(1, -1);
    // In its shortest form, so that two ways to write it are one host.
    if (isIPv6(inner) && !inner.includes("%")) {
      return new URL(`http://[${inner}]`).hostname.slice(1, -1);
    }
    throw new ValueFault("between [ and ] an IPv6 address is expected, as in [::1]:2222");
  }
  if (isIPv6(host)) throw new ValueFault("an IPv6 address stands in brackets, as in [::1]:2222");
  if (isHostName(host)) return host;
  throw new ValueFault("the part before the port is not a host name or an address");
}

/** An address (`10.0.0.1`, `fd00::1`) or a CIDR (`10.0.0.0/8`, `fd00::/8`), as written. */
export function parseCidr(text: string): string {
  const [address, prefix, ...more] = text.split("/");
  const version = isIP(address);
  if (version === 0 || more.length > 0) {
    throw new ValueFault("not an address or a CIDR; write 10.0.0.1, 10.0.0.0/8 or fd00::/8");
  }
  const bits = version === 4 ? 32 : 128;
  if (prefix !== undefined && !(/^(0|[1-9]\d{0,2})$/.test(prefix) && Number(prefix) <= bits)) {
    throw new ValueFault(`behind the / stands a number from 0 to ${bits}`);
  }
  return text;
}

/** The host of a `Host` header, without its port; in lower case, since case means nothing. */
export function parseHost(text: string): string {
  const address = text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
  if (isIPv6(address) || isHostName(text)) return text.toLowerCase();
  throw new ValueFault("not a host; write push.example.org, without a port");
}

/** `*`, or an `Origin` as a browser sends it; in the browser's form (lower case, no default port). */
export function parseOrigin(text: string): string {
  if (text === "*") return text;
  const parts = /^([a-z][a-z0-9+.-]*):\/\/([^\s/?#@\\*]+)$/i.exec(text);
  if (parts === null) {
    throw new ValueFault(
      'not an origin; write https://chat.example.org, without a path, or "*" for all',
    );
  }
  if (!/^https?$/i.test(parts[1])) return text.toLowerCase();
  const { hostname } = parseListenAddr(/:\d+$/.test(parts[2]) ? parts[2] : `${parts[2]}:0`);
  if (hostname === "::") {
    throw new ValueFault("an origin needs a host; write https://chat.example.org");
  }
  return new URL(text).origin;
}

/** A name by the rules of the protocol: 1–255 bytes of UTF-8, see docs/protocol.md. */
export function parseName(text: string): string {
  const bytes = new TextEncoder().encode(text).length;
  if (text === "") throw new ValueFault("empty; a name of 1 to 255 bytes is needed");
  if (!text.isWellFormed() || bytes > 255) {
    throw new ValueFault("a name is at most 255 bytes of UTF-8");
  }
  if (hasSpaceOrControl(text)) {
    throw new ValueFault("a name holds no space and no control character");
  }
  if (/^[-$@]|\*/.test(text)) {
    throw new ValueFault('a name does not begin with "-", "$" or "@" and holds no "*"');
  }
  return text;
}

/** A secret that is one word, as `auth_server` needs it: no space, no control character. */
export function parseSecret(text: string): string {
  if (!text.isWellFormed() || hasSpaceOrControl(text)) {
    throw new ValueFault("a secret holds no space and no control character");
  }
  return text;
}

/** The path of a file, as written. */
export function parsePath(text: string): string {
  if (text.includes("\0")) throw new ValueFault("a path holds no NUL");
  return text;
}

/** A connection string of MongoDB. The fault never quotes it, since it may hold a password. */
export function parseMongoUrl(text: string): string {
  if (!/^mongodb(?:\+srv)?:\/\/(?:[^@/\s]*@)?[^@/\s,]+(?:,[^@/\s,]+)*(?:\/[^\s@]*)?$/.test(text)) {
    throw new ValueFault(
      "not a connection string; write mongodb://user:password@host:port/database, " +
        "with @ : / % in user and password percent-encoded",
    );
  }
  return text;
}

function hasSpaceOrControl(text: string): boolean {
  // deno-lint-ignore no-control-regex
  return /[\x00-\x20\x7f-\x9f]/.test(text);
}
