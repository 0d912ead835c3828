// Books on pooled buffers, for tests: who still owns what, and whether anything is given back twice.

import assert from "node:assert/strict";
import { BufferPool, PooledBuffer } from "../src/core/buffer_pool.ts";

/**
 * From its making until it is disposed of, watches every {@link PooledBuffer}: one that is released
 * more often than it is owned, or used behind its end, throws where that happens. The bytes of one
 * that has no owner left are overwritten, so that whoever still reads them reads nonsense.
 */
export class BufferLedger implements Disposable {
  #owners = new Map<PooledBuffer, number>();
  #acquire = BufferPool.prototype.acquire;
  #retain = PooledBuffer.prototype.retain;
  #release = PooledBuffer.prototype.release;

  constructor() {
    const owners = this.#owners;
    const acquire = this.#acquire;
    const retain = this.#retain;
    const release = this.#release;
    BufferPool.prototype.acquire = function (minBytes) {
      const buffer = acquire.call(this, minBytes);
      owners.set(buffer, 1);
      return buffer;
    };
    PooledBuffer.prototype.retain = function () {
      const count = owners.get(this);
      assert.ok(count !== undefined, "retained without an owner");
      owners.set(this, count + 1);
      retain.call(this);
    };
    PooledBuffer.prototype.release = function () {
      const count = owners.get(this);
      assert.ok(count !== undefined, "released more often than owned");
      if (count === 1) {
        owners.delete(this);
        this.bytes.fill(0x3f);
      } else {
        owners.set(this, count - 1);
      }
      release.call(this);
    };
  }

  /** Buffers that still have an owner. */
  get owned(): number {
    return this.#owners.size;
  }

  /** Ownerships that have not been given back, over all buffers. */
  get ownerships(): number {
    let sum = 0;
    for (const count of this.#owners.values()) sum += count;
    return sum;
  }

  [Symbol.dispose](): void {
    BufferPool.prototype.acquire = this.#acquire;
    PooledBuffer.prototype.retain = this.#retain;
    PooledBuffer.prototype.release = this.#release;
  }
}

/** A sealed buffer with the UTF-8 of `text` and one owner. */
export function bufferOf(pool: BufferPool, text: string): PooledBuffer {
  const bytes = new TextEncoder().encode(text);
  const buffer = pool.acquire(bytes.length);
  buffer.bytes.set(bytes);
  buffer.length = bytes.length;
  return buffer.seal();
}
