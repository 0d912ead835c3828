// A list of addresses and networks, as the configuration has them, and whether an address is in it.

import { addressBits } from "./ip_address.ts";

/** The addresses whose bits, but for the last `hostBits` of 128, are `prefix`. */
interface Network {
  prefix: bigint;
  hostBits: bigint;
}

/** Bits of a 128-bit address that tell the hosts of all of IPv4 apart, mapped at `::ffff:0:0/96`. */
const IPV4_BITS = 32n;
const IPV4_PREFIX = 0xffffn;

/**
 * Addresses (`10.0.0.1`, `fd00::1`) and CIDRs (`10.0.0.0/8`, `fd00::/8`) of both versions.
 *
 * An IPv4-mapped IPv6 address is its IPv4 address, in entries and in questions: `::ffff:10.0.0.1` is in
 * `10.0.0.0/8` and not in `::/0`, which is all of IPv6 alone. Zones (`%eth0`) are not looked at, since
 * the runtime does not tell which one a peer has. Bits behind the prefix do not count: `10.1.2.3/8` is
 * `10.0.0.0/8`. Not made of node:net's BlockList, since that has all of IPv4 in `::ffff:0:0/0` and
 * none of it in `::/0`.
 */
export class AddressList {
  #networks: readonly Network[];

  /** Takes what config's `parseCidr` accepts; throws a RangeError for an entry that is no such thing. */
  constructor(entries: readonly string[]) {
    this.#networks = entries.map(parseNetwork);
  }

  /** Whether `address` is one of the list or in a network of it; a text that is no address is not. */
  has(address: string): boolean {
    const bits = addressBits(address);
    if (bits === null) return false;
    const isIPv4 = bits >> IPV4_BITS === IPV4_PREFIX;
    return this.#networks.some(({ prefix, hostBits }) =>
      bits >> hostBits === prefix && (!isIPv4 || hostBits <= IPV4_BITS)
    );
  }
}

function parseNetwork(entry: string): Network {
  const [address, prefix, ...more] = entry.split("/");
  const bits = addressBits(address);
  const width = address.includes(":") ? 128 : 32;
  const length = prefix === undefined ? width : /^\d{1,3}$/.test(prefix) ? Number(prefix) : NaN;
  if (bits === null || more.length > 0 || !(length <= width)) {
    throw new RangeError(
      `${
        JSON.stringify(entry)
      } is no address and no CIDR; 10.0.0.1, 10.0.0.0/8 or fd00::/8 would be`,
    );
  }
  const hostBits = BigInt(width - length);
  return { prefix: bits >> hostBits, hostBits };
}
