// Free ports and the machine's own address, with the API of JSR's @std/net, whose place it takes.
//
// JSR cannot be reached from a closed network, so nothing the build needs may come from there. The rest
// of the code imports "@std/net"; deno.json says what that is, and `jsr:@std/net@^1` in that one line takes
// the real one. So there is nothing here that the real one has not.

/** What {@linkcode getAvailablePort} takes. */
export interface GetAvailablePortOptions {
  /** Taken where it is free; 0 and undefined mean any. */
  preferredPort?: number;
}

/**
 * A TCP port that is free on every interface, or was a moment ago: whoever listens on it may find it taken,
 * and where the port need not be known before, port 0 is better.
 *
 * Throws what `Deno.listen` throws where it is not for the port being in use.
 */
export function getAvailablePort(options?: GetAvailablePortOptions): number {
  if (options?.preferredPort) {
    try {
      return portOf(options.preferredPort);
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
  return portOf(0);
}

function portOf(port: number): number {
  using listener = Deno.listen({ port });
  return listener.addr.port;
}

/**
 * The first address of this machine that is not loopback, as others on its network know it, or undefined
 * where there is none. Needs the permission `sys`, for networkInterfaces.
 */
export function getNetworkAddress(family: "IPv4" | "IPv6" = "IPv4"): string | undefined {
  return Deno.networkInterfaces().find((found) =>
    found.family === family &&
    (family === "IPv4"
      // All of 127.0.0.0/8 is loopback.
      ? !found.address.startsWith("127.")
      // A link-local address says nothing without its zone.
      : found.address !== "::1" && !found.address.startsWith("fe80:"))
  )?.address;
}
