// Byte buffers from a pool by size class, shared by reference count.

import { viewOf } from "./text_copy.ts";

const MIN_CLASS_BITS = 8; // 256 B
const MAX_CLASS_BITS = 20; // 1 MiB
/** Free bytes kept per size class; what is released beyond goes to the garbage collector. */
const MAX_FREE_BYTES_PER_CLASS = 4 * 1024 * 1024;

/** Bytes of the pool; they keep their second view, which costs more to make than they do. */
class Memory {
  #data: DataView | null = null;

  constructor(readonly bytes: Uint8Array<ArrayBuffer>) {}

  get data(): DataView {
    return this.#data ??= viewOf(this.bytes);
  }
}

/** A buffer with an owner count. Filled by its first owner, then sealed and only read. */
export class PooledBuffer {
  /** Bytes in use. */
  length = 0;
  readonly bytes: Uint8Array<ArrayBuffer>;
  #pool: BufferPool;
  #memory: Memory;
  #refs = 1;
  /** Made for the first who asks once the buffer is sealed: most small ones are joined with others. */
  #view: Uint8Array<ArrayBuffer> | null = null;
  #isSealed = false;

  constructor(pool: BufferPool, memory: Memory) {
    this.#pool = pool;
    this.#memory = memory;
    this.bytes = memory.bytes;
  }

  /** The same bytes for {@link copyText}. */
  get data(): DataView {
    return this.#memory.data;
  }

  /** Ends the filling: {@link view} now shows the bytes in use. */
  seal(): this {
    this.#isSealed = true;
    return this;
  }

  /** The bytes in use, once it is sealed; all of them before. */
  get view(): Uint8Array<ArrayBuffer> {
    if (!this.#isSealed || this.length === this.bytes.length) return this.bytes;
    return this.#view ??= this.bytes.subarray(0, this.length);
  }

  retain(): void {
    this.#refs++;
  }

  /** Gives one ownership back; the last one returns the bytes to the pool. */
  release(): void {
    if (--this.#refs === 0) this.#pool.putMemory(this.#memory);
  }
}

/** Allocates {@link PooledBuffer}s in powers of two from 256 B to 1 MiB; larger ones exactly. */
export class BufferPool {
  #free: Memory[][] = [];

  constructor() {
    for (let bits = MIN_CLASS_BITS; bits <= MAX_CLASS_BITS; bits++) this.#free.push([]);
  }

  /** A buffer of at least `minBytes` with one owner. Its old contents are not erased. */
  acquire(minBytes: number): PooledBuffer {
    return new PooledBuffer(this, this.#take(minBytes));
  }

  /** A buffer of at least `minBytes` that begins as `buffer`, whose ownership is given back for it. */
  grow(buffer: PooledBuffer, minBytes: number): PooledBuffer {
    const grown = this.acquire(minBytes);
    grown.bytes.set(buffer.bytes.subarray(0, buffer.length));
    grown.length = buffer.length;
    buffer.release();
    return grown;
  }

  /** A sealed copy of `bytes` with one owner. */
  copyOf(bytes: Uint8Array): PooledBuffer {
    const copy = this.acquire(bytes.length);
    copy.bytes.set(bytes);
    copy.length = bytes.length;
    return copy.seal();
  }

  /** Plain bytes of at least `minBytes`, to be given back by {@link put}. */
  take(minBytes: number): Uint8Array<ArrayBuffer> {
    return this.#take(minBytes).bytes;
  }

  /** Takes bytes back. They must not be used any more. */
  put(bytes: Uint8Array<ArrayBuffer>): void {
    this.putMemory(new Memory(bytes));
  }

  #take(minBytes: number): Memory {
    const bits = classBits(minBytes);
    if (bits > MAX_CLASS_BITS) return new Memory(new Uint8Array(minBytes));
    return this.#free[bits - MIN_CLASS_BITS].pop() ?? new Memory(new Uint8Array(1 << bits));
  }

  /** As {@link put}, for {@link PooledBuffer}. */
  putMemory(memory: Memory): void {
    const { length } = memory.bytes;
    const bits = classBits(length);
    if (bits > MAX_CLASS_BITS || length !== 1 << bits) return;
    const free = this.#free[bits - MIN_CLASS_BITS];
    if (free.length << bits < MAX_FREE_BYTES_PER_CLASS) free.push(memory);
  }
}

function classBits(bytes: number): number {
  return bytes <= 1 << MIN_CLASS_BITS ? MIN_CLASS_BITS : 32 - Math.clz32(bytes - 1);
}

/** The process's pool: buffers wander between channels, connections and the history cache. */
export const buffers: BufferPool = new BufferPool();
