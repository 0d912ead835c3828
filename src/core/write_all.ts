// Bytes to something that may take less than it is given.

/** A connection, or standard output. */
export interface PartialWriter {
  /** Takes some of the bytes, at least one, and says how many. */
  write(bytes: Uint8Array): Promise<number>;
}

/** Writes all of it, in as many parts as it takes; rejects as `to` does. */
export async function writeAll(to: PartialWriter, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}
