// The frames of ZooKeeper's protocol, cut out of what arrives: 4 bytes of length, then as many bytes.

import { Buffer } from "node:buffer";

/** Bytes of a frame's length. */
const LENGTH_BYTES = 4;
/**
 * The largest frame, in bytes. ZooKeeper takes no znode above 1 MiB (jute.maxbuffer), a list of children may
 * be longer; what is not ZooKeeper at all soon says more.
 */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;
/** The shortest that there is: the header of a reply. */
const MIN_FRAME_BYTES = 16;

/** The other side does not speak ZooKeeper's protocol. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Cuts a stream into frames. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** Forgets what has arrived: a new connection begins. */
  reset(): void {
    this.#chunks = [];
    this.#bytes = 0;
  }

  /** Takes what arrived. Throws a {@link ProtocolError}, here or from {@link next}. */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  /** The next whole frame, its length included, or null where more must arrive first. */
  next(): Buffer | null {
    if (this.#bytes < LENGTH_BYTES) return null;
    if (this.#chunks[0].length < LENGTH_BYTES) this.#join();
    const length = this.#chunks[0].readInt32BE(0);
    if (length < MIN_FRAME_BYTES || length > MAX_FRAME_BYTES) {
      throw new ProtocolError(`a frame of ${length} bytes`);
    }
    const end = LENGTH_BYTES + length;
    if (this.#bytes < end) return null;
    if (this.#chunks[0].length < end) this.#join();
    const [first] = this.#chunks;
    const frame = first.subarray(0, end);
    if (first.length === end) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(end);
    this.#bytes -= end;
    return frame;
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks)];
  }
}

/**
 * Throws a {@link ProtocolError} where the bytes that an answer says it holds (the password of a session, the
 * data of a znode, which stand at the same place) are more than the frame: the library would make room first.
 */
export function checkInnerLength(frame: Buffer): void {
  const at = LENGTH_BYTES + MIN_FRAME_BYTES;
  if (frame.length < at + LENGTH_BYTES) return;
  const length = frame.readInt32BE(at);
  if (length > frame.length - at - LENGTH_BYTES) {
    throw new ProtocolError(`${length} bytes in a frame of ${frame.length}`);
  }
}
