// Addresses of hosts and ports, as they are written and dialled.

import { isIPv4 } from "node:net";

/** `host:port`, with brackets around an IPv6 address. */
export function hostAndPort(hostname: string, port: number): string {
  return hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}

/** The parts of `host:port`, an IPv6 address without its brackets; of what is none, anything. */
export function splitHostPort(text: string): { hostname: string; port: number } {
  const at = text.lastIndexOf(":");
  return {
    hostname: text.slice(0, at).replace(/^\[(.*)\]$/, "$1"),
    port: Number(text.slice(at + 1)),
  };
}

/** Whether `text` is an IPv4 address or a host name; one that ends in a number is an address to all. */
export function isHostName(text: string): boolean {
  const labels = text.replace(/\.$/, "").split(".");
  if (/^(?:\d+|0x[0-9a-f]*)$/i.test(labels[labels.length - 1])) return isIPv4(text);
  const label = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;
  return text.length <= 253 && labels.every((part) => label.test(part));
}

/** Whether listening there means every interface. */
export function isWildcard(hostname: string): boolean {
  return hostname === "0.0.0.0" || hostname === "::";
}
