// Connections that were accepted and are not clients yet: a proxy still has to say whom it brings, or
// TLS is being agreed on.

import type { TimingWheel, WheelEntry } from "../core/timing_wheel.ts";
import { closeQuietly } from "./socket.ts";

/** How long it may take, ms: the proxy's header and the handshake, each. */
export const ARRIVAL_MS = 8000;

/** A connection on its way in; closed where it takes too long. */
class Arrival implements WheelEntry {
  prev: WheelEntry | null = null;
  next: WheelEntry | null = null;
  slot = -1;
  dueMs = 0;
  isLate = false;

  constructor(readonly socket: { close(): void }) {}

  onDue(): number {
    this.isLate = true;
    closeQuietly(this.socket);
    return 0;
  }
}

/** Everything that is on its way in, each with a deadline. */
export class Arrivals {
  #wheel: TimingWheel;
  #all = new Set<Arrival>();

  constructor(wheel: TimingWheel) {
    this.#wheel = wheel;
  }

  get size(): number {
    return this.#all.size;
  }

  /**
   * What `work` gives. The socket is closed when that takes longer than {@link ARRIVAL_MS}, or fails;
   * the error then says which.
   */
  async bring<T>(socket: { close(): void }, work: () => Promise<T>): Promise<T> {
    const arrival = new Arrival(socket);
    this.#all.add(arrival);
    this.#wheel.schedule(arrival, performance.now() + ARRIVAL_MS);
    try {
      return await work();
    } catch (error) {
      closeQuietly(socket);
      if (arrival.isLate) throw new Error(`not done within ${ARRIVAL_MS / 1000} s`);
      throw error;
    } finally {
      this.#wheel.cancel(arrival);
      this.#all.delete(arrival);
    }
  }

  /** Closes all of them. */
  close(): void {
    for (const { socket } of this.#all) closeQuietly(socket);
  }
}
