// Which `Host` an HTTP door on a loopback address answers to: the defence against DNS rebinding.

import { isIP } from "node:net";

/** Whether a listen host can be reached from this machine only; `""`, a wildcard, is not. */
export function isLoopback(hostname: string): boolean {
  const host = normalizeHost(hostname);
  if (host === "localhost" || host === "::1") return true;
  return isIP(host) === 4 && host.startsWith("127.");
}

/**
 * Whether a request with this `Host` header may be answered by a door that listens on `listenHost`.
 *
 * On an address others can reach every host is fine. On loopback the browser's same-origin rule is all that
 * keeps web pages away, and a page can get round that by giving its own name a loopback address. So there
 * the host must be one a page cannot own: `localhost`, an address, the listen address, or one that the
 * operator named in `allowedHosts` (without ports). `host` may carry a port.
 */
export function isHostAllowed(
  host: string,
  listenHost: string,
  allowedHosts: readonly string[],
): boolean {
  if (!isLoopback(listenHost)) return true;
  const name = normalizeHost(host.replace(/:\d*$/, (port) => isIP(host) === 6 ? port : ""));
  if (name === "localhost" || isIP(name) !== 0) return true;
  return [listenHost, ...allowedHosts].some((allowed) => normalizeHost(allowed) === name);
}

/** Lower case, without the brackets of an IPv6 address and the dot that may end a name. */
function normalizeHost(host: string): string {
  return host.toLowerCase().replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
}
