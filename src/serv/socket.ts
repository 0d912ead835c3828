// What a connection needs of its socket, and where the sockets of clients come from.

/** A stream of bytes to a client: plain TCP, TLS, or either behind a proxy's header. */
export interface Socket {
  /** Resolves to the number of bytes, null at their end. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** May take less than it is given. */
  write(bytes: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  close(): void;
}

/** A socket of which some bytes have been read already. */
export class PrefixedSocket implements Socket {
  #first: Uint8Array | null;

  constructor(readonly inner: Socket, first: Uint8Array) {
    this.#first = first;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    const first = this.#first;
    if (first === null) return this.inner.read(buffer);
    const count = Math.min(first.length, buffer.length);
    buffer.set(first.subarray(0, count));
    this.#first = count === first.length ? null : first.subarray(count);
    return Promise.resolve(count);
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.inner.write(bytes);
  }

  closeWrite(): Promise<void> {
    return this.inner.closeWrite();
  }

  close(): void {
    this.inner.close();
  }
}
