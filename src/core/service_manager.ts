// What systemd is told about this process (sd_notify(3)), where it asks to be told.

import process from "node:process";
import { openLibc, sendDatagram } from "./libc.ts";
import { getLogger } from "./logger.ts";
import { pause } from "./pause.ts";
import { spawn, type Task } from "./spawn.ts";

/** A unit of systemd that wants to know (`Type=notify`, `WatchdogSec`). */
export class ServiceManager {
  #socket: string;
  #watchdogMs: number;
  #watching: Task | null = null;

  private constructor(socket: string, watchdogMs: number) {
    this.#socket = socket;
    this.#watchdogMs = watchdogMs;
  }

  /** The one that `env` names by `NOTIFY_SOCKET`; null where nobody wants to know. */
  static of(env: Record<string, string | undefined> = process.env): ServiceManager | null {
    const { NOTIFY_SOCKET, WATCHDOG_USEC } = env;
    if (!NOTIFY_SOCKET || Deno.build.os !== "linux") return null;
    const usec = /^[1-9]\d{0,14}$/.test(WATCHDOG_USEC ?? "") ? Number(WATCHDOG_USEC) : 0;
    return new ServiceManager(NOTIFY_SOCKET, usec / 1000);
  }

  /** Clients are served from now on. Starts to feed the watchdog, where there is one. */
  ready(): void {
    if (!this.#tell("READY=1\nSTATUS=serving")) {
      getLogger("core").warn(
        "systemd cannot be told that the server is ready; from source use Type=exec in its unit",
      );
      return;
    }
    if (this.#watchdogMs === 0) return;
    // Twice in that time: an event loop that does not turn is what the watchdog is for.
    this.#watching = spawn("core.watchdog", async (signal) => {
      while (await pause(this.#watchdogMs / 2, signal)) this.#tell("WATCHDOG=1");
    });
  }

  /** The server stops; the watchdog is still fed, as the process may take its time. */
  stopping(): void {
    this.#tell("STOPPING=1\nSTATUS=stopping");
  }

  /** Ends what runs in the background. */
  async close(): Promise<void> {
    this.#watching?.stop();
    await this.#watching?.done;
  }

  #tell(text: string): boolean {
    const libc = openLibc();
    if (libc === null) return false;
    try {
      return sendDatagram(libc, this.#socket, text);
    } finally {
      libc.close();
    }
  }
}
