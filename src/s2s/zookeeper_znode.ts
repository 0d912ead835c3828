// A node's znode: its name, and the JSON in it.

import { isIPv6 } from "node:net";
import * as z from "zod";
import { isHostName } from "../core/host_port.ts";
import type { MemberInfo } from "./membership.ts";
import { decodeUtf8, encodeUtf8 } from "../proto/bytes.ts";

/** The largest znode that is read, in bytes; ours has some 300. */
const MAX_ZNODE_BYTES = 64 * 1024;

const znodeSchema = z.object({
  id: z.string().min(1).max(255),
  incarnation: z.string().min(1).max(64),
  s2s_addr: z.string().max(300),
  client_addr: z.string().max(300),
  version: z.string().max(64),
});

/** Why a znode is no member; the message is for a person. */
export class ZnodeFault extends Error {
  override readonly name = "ZnodeFault";
}

/**
 * A name as one element of a path in ZooKeeper: percent-encoded where ZooKeeper does not take it as it is ("/",
 * "." and ".." alone, control characters, much of what is above U+D7FF). `decodeURIComponent` is the way
 * back.
 */
export function pathElement(name: string): string {
  if (name === "." || name === "..") return name.replaceAll(".", "%2E");
  return [...name.toWellFormed()].map((char) => isPlain(char) ? char : percentEncode(char)).join(
    "",
  );
}

function isPlain(char: string): boolean {
  const code = char.codePointAt(0) ?? 0;
  return char !== "%" && char !== "/" && code >= 0x20 && code < 0xd800 &&
    (code < 0x7f || code > 0x9f);
}

function percentEncode(char: string): string {
  const hex = (byte: number) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return [...encodeUtf8(char)].map(hex).join("");
}

/** What a node writes into its znode. */
export function writeZnode(info: MemberInfo): Uint8Array {
  return encodeUtf8(JSON.stringify({
    id: info.id,
    incarnation: info.incarnation,
    s2s_addr: info.s2sAddr,
    client_addr: info.clientAddr,
    version: info.version,
  }));
}

/**
 * What the znode `name` says; further keys are ignored: that is how a later version grows. Throws a
 * {@link ZnodeFault} where it is not what a node writes there.
 */
export function readZnode(name: string, data: Uint8Array): MemberInfo {
  if (data.length === 0) throw new ZnodeFault("it is empty");
  if (data.length > MAX_ZNODE_BYTES) {
    throw new ZnodeFault(`it has ${data.length} bytes, of ${MAX_ZNODE_BYTES} at most`);
  }
  let json: unknown;
  try {
    json = JSON.parse(decodeUtf8(data));
  } catch {
    throw new ZnodeFault("it is not JSON");
  }
  const parsed = znodeSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const key = issue.path.join(".");
    throw new ZnodeFault(key === "" ? issue.message : `"${key}": ${issue.message}`);
  }
  const { id, incarnation, s2s_addr: s2sAddr, client_addr: clientAddr, version } = parsed.data;
  if (pathElement(id) !== name) {
    throw new ZnodeFault(`its "id" is ${JSON.stringify(id)}, which belongs elsewhere`);
  }
  if (!isDialable(s2sAddr)) {
    throw new ZnodeFault(
      `"s2s_addr" is ${JSON.stringify(s2sAddr)}, not host:port as 10.0.0.1:2223 would be`,
    );
  }
  return { id, incarnation, s2sAddr, clientAddr, version };
}

/** Whether an address is a host or an IP address (IPv6 in brackets), and a port, that can be connected to. */
function isDialable(text: string): boolean {
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65535) return false;
  if (host.startsWith("[")) {
    const inner = host.slice(1, -1);
    // However they are written, the wildcard has nothing but zeros.
    return host.endsWith("]") && isIPv6(inner) && !inner.includes("%") && /[1-9a-f]/i.test(inner);
  }
  return isHostName(host) && host !== "0.0.0.0";
}
