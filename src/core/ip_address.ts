// IP addresses as text: the one form in which two of them can be compared, and the network of one.

import { isIP } from "node:net";

/**
 * An IPv4 or IPv6 address in its canonical form, or null where `text` is none.
 *
 * IPv6 is given as RFC 5952 says and as the runtime shows a peer (lower case, no leading zeros, `::`
 * for the longest run of zeros), without its zone (`%eth0`). An IPv4-mapped address (RFC 4291, section
 * 2.5.5.2), as an IPv4 client has it on a socket that takes both, is the IPv4 address:
 * `::ffff:1.2.3.4` and `::ffff:102:304` give `1.2.3.4`.
 */
export function canonicalAddress(text: string): string | null {
  const version = isIP(text);
  if (version !== 6) return version === 4 ? text : null;
  // A URL's host is what the runtime can shorten; it knows no zones and writes no dotted IPv4.
  const host = URL.parse(`http://[${text.replace(/%.*$/, "")}]`)?.hostname;
  if (host === undefined) return null;
  const mapped = /^\[::ffff:([0-9a-f]+):([0-9a-f]+)\]$/.exec(host);
  if (mapped === null) return host.slice(1, -1);
  const [high, low] = mapped.slice(1).map((group) => parseInt(group, 16));
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}

/**
 * What failures are counted for: an IPv4 address as it is, of an IPv6 address its /64, such as
 * `2001:db8:1:2::/64`, since one host or household owns a whole /64 (RFC 6177) and may use any
 * address of it. An IPv4-mapped address gives the IPv4 address, a text that is no address itself.
 */
export function networkOf(address: string): string {
  const canonical = canonicalAddress(address);
  if (canonical === null) return address;
  if (!canonical.includes(":")) return canonical;
  const prefix = `${groupsOf(canonical).slice(0, 4).join(":")}::`;
  return `${canonicalAddress(prefix)}/64`;
}

/**
 * An address as a number of 128 bits, or null where `address` is none; IPv4 as in its IPv4-mapped form:
 * `10.0.0.1` is `0xffff_0a00_0001n`.
 */
export function addressBits(address: string): bigint | null {
  const canonical = canonicalAddress(address);
  if (canonical === null) return null;
  if (canonical.includes(":")) {
    return BigInt(`0x${groupsOf(canonical).map((group) => group.padStart(4, "0")).join("")}`);
  }
  return canonical.split(".").reduce((bits, octet) => bits << 8n | BigInt(octet), 0xffffn);
}

/** The eight groups of a canonical IPv6 address, `::` filled with zeros. */
function groupsOf(address: string): string[] {
  const [left, right = []] = address.split("::").map((part) => part === "" ? [] : part.split(":"));
  return [...left, ...Array<string>(8 - left.length - right.length).fill("0"), ...right];
}
