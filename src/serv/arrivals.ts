// Connections that were accepted and are not clients yet: a proxy still has to say whom it brings, or
// TLS is being agreed on.

import type { TimingWheel, WheelEntry } from "../core/timing_wheel.ts";
import { closeQuietly } from "../core/close_quietly.ts";

/** How long it may take, ms: the proxy's header and the handshake, each. */
export const ARRIVAL_MS = 8000;

/** A connection on its way in; closed where it takes too long. */
class Arrival implements WheelEntry {
  prev: WheelEntry | null = null;
  next: WheelEntry | null = null;
  slot = -1;
  dueMs = 0;
  /** Why it was closed by us. */
  fault: string | null = null;

  constructor(readonly socket: { close(): void }, readonly files: number) {}

  close(fault: string): void {
    this.fault ??= fault;
    closeQuietly(this.socket);
  }

  onDue(): number {
    this.close(`not done within ${ARRIVAL_MS / 1000} s`);
    return 0;
  }
}

/** Everything that is on its way in, each with a deadline. */
export class Arrivals {
  #wheel: TimingWheel;
  /** Oldest first. */
  #all = new Set<Arrival>();
  #files = 0;

  constructor(wheel: TimingWheel) {
    this.#wheel = wheel;
  }

  get size(): number {
    return this.#all.size;
  }

  /** How many they hold. */
  get files(): number {
    return this.#files;
  }

  /**
   * What `work` gives. The socket, which holds `files` with what belongs to it, is closed when that
   * takes longer than {@link ARRIVAL_MS}, or fails; the error then says which. Where all that are on
   * their way in hold more than `maxFiles`, those that have been longest make room: who means to come in
   * takes milliseconds.
   */
  async bring<T>(
    { socket, files, maxFiles }: { socket: { close(): void }; files: number; maxFiles: number },
    work: () => Promise<T>,
  ): Promise<T> {
    for (const oldest of this.#all) {
      if (this.#files + files <= maxFiles) break;
      this.#remove(oldest);
      oldest.close("it had to make room for others");
    }
    const arrival = new Arrival(socket, files);
    this.#all.add(arrival);
    this.#files += files;
    this.#wheel.schedule(arrival, performance.now() + ARRIVAL_MS);
    try {
      return await work();
    } catch (error) {
      closeQuietly(socket);
      throw arrival.fault === null ? error : new Error(arrival.fault);
    } finally {
      this.#remove(arrival);
    }
  }

  #remove(arrival: Arrival): void {
    if (!this.#all.delete(arrival)) return;
    this.#files -= arrival.files;
    this.#wheel.cancel(arrival);
  }

  /** Closes all of them. */
  close(): void {
    for (const arrival of this.#all) arrival.close("the server is stopping");
  }
}
