// What Linux says about a process: its memory, its open files, the processor time it has used.

import { within } from "./harness.ts";

/** Behind the name of a test that needs this: empty, or why it is skipped. */
export const processReason = Deno.build.os === "linux" ? "" : " (needs the /proc of Linux)";

/** How long something took. */
export interface Span {
  ms: number;
  /** For how much of it those who did it stood in line for a processor. */
  waitedMs: number;
}

/** Times what is done by this process and another one. */
export async function timed(other: Process, work: () => Promise<unknown>): Promise<Span> {
  const here = new Process(Deno.pid);
  const waitedMs = here.waitedMs() + other.waitedMs();
  const startMs = performance.now();
  await work();
  const ms = performance.now() - startMs;
  return { ms, waitedMs: here.waitedMs() + other.waitedMs() - waitedMs };
}

/** What it would have taken had the machine done nothing else, ms. */
export function ownMs({ ms, waitedMs }: Span): number {
  return ms - waitedMs;
}

/** A running process. */
export class Process {
  constructor(readonly pid: number) {}

  /** Resident memory, KiB: now (`VmRSS`), or the most so far (`VmHWM`). */
  memoryKb(key: "VmRSS" | "VmHWM"): number {
    const status = Deno.readTextFileSync(`/proc/${this.pid}/status`);
    return Number(new RegExp(`^${key}:\\s*(\\d+) kB`, "m").exec(status)?.[1]);
  }

  /** Processor time of all threads so far, in steps of 10 ms. */
  cpuMs(): number {
    const stat = Deno.readTextFileSync(`/proc/${this.pid}/stat`);
    // The name of the program comes first, and may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // utime and stime.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** For how long its threads were ready to run, while the machine ran others, in all and so far, ms. */
  waitedMs(): number {
    let ns = 0;
    for (const thread of Deno.readDirSync(`/proc/${this.pid}/task`)) {
      const file = `/proc/${this.pid}/task/${thread.name}/schedstat`;
      // Time on a processor, time in line for one, times it was its turn; nothing of a thread that ends.
      ns += Number(read(file).split(" ")[1] ?? 0);
    }
    return ns / 1e6;
  }

  /** How many files it has open: all, or only its sockets. Others come and go at its start. */
  fileCount(which: "all" | "sockets" = "all"): number {
    const files = [...Deno.readDirSync(`/proc/${this.pid}/fd`)];
    if (which === "all") return files.length;
    return files.filter(({ name }) => link(`/proc/${this.pid}/fd/${name}`).startsWith("socket:"))
      .length;
  }

  /** Waits until it has `least` sockets open, and at most `most`. */
  async untilSockets(least: number, most = least): Promise<void> {
    let count: number;
    let isLate = false;
    const polling = (async () => {
      while (!isLate && ((count = this.fileCount("sockets")) < least || count > most)) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    })();
    await within(() => `${least} to ${most} sockets; there are ${count}`, polling, {
      onLate: () => isLate = true,
    });
  }
}

/** Whether every thread of a process is stopped, or it has ended. */
export function isStopped(pid: number): boolean {
  try {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      const status = Deno.readTextFileSync(`/proc/${pid}/task/${name}/status`);
      if (!/^State:\s+[TtZX]/m.test(status)) return false;
    }
  } catch {
    // A thread, or all of it, has ended.
  }
  return true;
}

function read(file: string): string {
  try {
    return Deno.readTextFileSync(file);
  } catch {
    // Gone meanwhile.
    return "";
  }
}

function link(file: string): string {
  try {
    return Deno.readLinkSync(file);
  } catch {
    return "";
  }
}
