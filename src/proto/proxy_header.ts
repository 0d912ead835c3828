// The PROXY protocol: the header in which a proxy tells whose connection it passes on.

import { canonicalAddress } from "../core/ip_address.ts";
import { CR, encodeUtf8, LF } from "./bytes.ts";
import { shorten } from "./request.ts";

/** What the bytes at the beginning of a connection are, so far. */
export type ProxyHeader =
  /** A header as far as they go, and it goes on. */
  | { state: "more" }
  /**
   * A whole header of `length` bytes; what follows them is the client's own. `source` is where the client
   * connects from, null where the header does not say: then the connection's own address counts.
   */
  | { state: "done"; length: number; source: ProxySource | null }
  /** No header, and none with whatever may follow; `reason` is a sentence without control characters. */
  | { state: "wrong"; reason: string };

/** Where a client connects from, as the proxy tells it. */
export interface ProxySource {
  /** IPv4, or IPv6 in its shortest form; an IPv4-mapped address is given as IPv4. */
  address: string;
  /** 0–65535. */
  port: number;
}

/**
 * Longest header that is taken, in bytes: version 2 allows 65551, most of them for extensions (TLVs) that
 * are skipped here.
 */
export const MAX_PROXY_HEADER_BYTES = 4096;

/** Longest line of version 1 in bytes, its CRLF included (section 2.1, "worst case"). */
const MAX_LINE_BYTES = 107;

/** Where version 2 has its fields, in bytes from its beginning; the addresses follow. */
const COMMAND_AT = 12;
const FAMILY_AT = 13;
const LENGTH_AT = 14;
const FIXED_BYTES = 16;

const MORE: ProxyHeader = { state: "more" };

/** What a header begins with, and who reads it; none of them is the beginning of another. */
const OPENINGS: [Uint8Array, (bytes: Uint8Array) => ProxyHeader][] = [
  [encodeUtf8("PROXY TCP4 "), parseLine],
  [encodeUtf8("PROXY TCP6 "), parseLine],
  [encodeUtf8("PROXY UNKNOWN "), parseLine],
  [encodeUtf8("PROXY UNKNOWN\r\n"), parseLine],
  [encodeUtf8("\r\n\r\n\0\r\nQUIT\n"), parseBinary],
];

/**
 * Reads the PROXY header, version 1 or 2, that `bytes` begins with: everything that a connection has sent
 * since it was opened, not only the newest read. Pure: what it says of some bytes stays true of more.
 *
 * Follows HAProxy's "The PROXY protocol", sections 2.1 and 2.2 (haproxy.org, doc/proxy-protocol.txt).
 * Where the text lets the receiver choose, datagrams are refused, and of AF_UNSPEC and AF_UNIX the
 * addresses are skipped; so are TLVs, unread.
 */
export function parseProxyHeader(bytes: Uint8Array): ProxyHeader {
  let agreed = 0;
  for (const [opening, parse] of OPENINGS) {
    const different = opening.findIndex((byte, i) => bytes[i] !== byte);
    if (different === -1) return parse(bytes);
    agreed = Math.max(agreed, different);
  }
  if (agreed === bytes.length) return MORE;
  return wrong(
    `no PROXY header: byte ${agreed + 1} is ${hex(bytes[agreed])}; "PROXY TCP4 ", "PROXY TCP6 ", ` +
      `"PROXY UNKNOWN" or the signature of version 2 would be right`,
  );
}

/** Version 1: a line of text, at most {@link MAX_LINE_BYTES} long. */
function parseLine(bytes: Uint8Array): ProxyHeader {
  const end = bytes.subarray(0, MAX_LINE_BYTES - 1).findIndex((byte) => byte === CR || byte === LF);
  if (end === -1) {
    if (bytes.length < MAX_LINE_BYTES - 1) return MORE;
    return wrong(
      `a PROXY line without an end; it has at most ${MAX_LINE_BYTES} bytes with its CRLF`,
    );
  }
  if (bytes[end] === CR && end + 1 === bytes.length) return MORE;
  if (bytes[end] === LF || bytes[end + 1] !== LF) {
    return wrong(`a PROXY line ends in CRLF, this one in ${bytes[end] === LF ? "LF" : "CR"} alone`);
  }
  const length = end + 2;
  const words = String.fromCharCode(...bytes.subarray(0, end)).split(" ");
  const family = words[1];
  // Whatever else stands in the line is to be ignored.
  if (family === "UNKNOWN") return { state: "done", length, source: null };
  if (words.length !== 6) {
    return wrong(
      `a PROXY ${family} line has 6 words with one space between them, this one ${words.length}: ` +
        `"PROXY ${family} source destination source-port destination-port" would be right`,
    );
  }
  const [address, destination] = words.slice(2, 4).map((word) => parseAddress(word, family));
  if (address === null || destination === null) {
    const word = shorten(words[address === null ? 2 : 3]);
    return wrong(`"${word}" in a PROXY ${family} line is no address of ${VERSIONS[family]}`);
  }
  const badPort = words.slice(4).find((word) => !isPort(word));
  if (badPort !== undefined) {
    return wrong(
      `"${shorten(badPort)}" in a PROXY ${family} line is no port; ` +
        `a number from 0 to 65535 without leading zeros would be right`,
    );
  }
  return { state: "done", length, source: { address, port: Number(words[4]) } };
}

const VERSIONS: Record<string, string> = { TCP4: "IPv4", TCP6: "IPv6" };

function parseAddress(word: string, family: string): string | null {
  // A zone means something on the proxy's machine only.
  if (word.includes(":") !== (family === "TCP6") || word.includes("%")) return null;
  return canonicalAddress(word);
}

function isPort(word: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(word) && Number(word) <= 65535;
}

const enum Command {
  Local = 0,
  Proxy = 1,
}

const enum Family {
  Unspecified = 0,
  IPv4 = 1,
  IPv6 = 2,
  Unix = 3,
}

const enum Transport {
  Unspecified = 0,
  Stream = 1,
}

/** Bytes of both addresses, with their ports, by {@link Family}. */
const ADDRESS_BYTES = [0, 12, 36, 216];

/**
 * Version 2: signature (12 bytes), version and command (4 bits each), family and transport (4 bits each),
 * length of the rest (2 bytes, big-endian), source and destination address, their ports, TLVs.
 */
function parseBinary(bytes: Uint8Array): ProxyHeader {
  if (bytes.length <= COMMAND_AT) return MORE;
  const version = bytes[COMMAND_AT] >> 4;
  const command = bytes[COMMAND_AT] & 15;
  if (version !== 2) {
    return wrong(`a binary PROXY header of version ${version}; version 2 would be right`);
  }
  if (command > Command.Proxy) {
    return wrong(`a PROXY header with command ${command}; 0 (LOCAL) or 1 (PROXY) would be right`);
  }
  if (bytes.length <= FAMILY_AT) return MORE;
  // What a LOCAL header says of addresses is to be ignored, its family too.
  const family = command === Command.Local ? Family.Unspecified : bytes[FAMILY_AT] >> 4;
  const transport = command === Command.Local ? Transport.Unspecified : bytes[FAMILY_AT] & 15;
  const isKnown = family <= Family.Unix && (transport === Transport.Stream ||
    transport === Transport.Unspecified && family === Family.Unspecified);
  if (!isKnown) {
    return wrong(
      `a PROXY header with family and transport ${hex(bytes[FAMILY_AT])}; 0x11 (TCP over IPv4), ` +
        `0x21 (TCP over IPv6), 0x31 (a Unix stream) or 0x00 (unspecified) would be right`,
    );
  }
  if (bytes.length < FIXED_BYTES) return MORE;
  const rest = bytes[LENGTH_AT] << 8 | bytes[LENGTH_AT + 1];
  const length = FIXED_BYTES + rest;
  if (rest < ADDRESS_BYTES[family]) {
    return wrong(
      `a PROXY header with ${rest} bytes of addresses; its family, ${family}, ` +
        `needs ${ADDRESS_BYTES[family]}`,
    );
  }
  if (length > MAX_PROXY_HEADER_BYTES) {
    return wrong(`a PROXY header of ${length} bytes; at most ${MAX_PROXY_HEADER_BYTES} are taken`);
  }
  if (bytes.length < length) return MORE;
  return { state: "done", length, source: readSource(bytes.subarray(FIXED_BYTES, length), family) };
}

/** The source in the addresses of version 2; null for a family that has none of use here. */
function readSource(block: Uint8Array, family: Family): ProxySource | null {
  if (family !== Family.IPv4 && family !== Family.IPv6) return null;
  const view = new DataView(block.buffer, block.byteOffset, block.length);
  if (family === Family.IPv4) {
    return { address: block.subarray(0, 4).join("."), port: view.getUint16(8) };
  }
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16)).join(":");
  return { address: canonicalAddress(groups) ?? groups, port: view.getUint16(32) };
}

function wrong(reason: string): ProxyHeader {
  return { state: "wrong", reason };
}

function hex(byte: number): string {
  return `0x${byte.toString(16).padStart(2, "0")}`;
}
