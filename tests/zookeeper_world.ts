// What the tests of ZooKeeper look through: memberships that are watched, the znodes themselves, and the log.

import { Buffer } from "node:buffer";
import { configure, type LogRecord } from "@logtape/logtape";
import { getLogger } from "../src/core/logger.ts";
import type { Member, MemberInfo } from "../src/s2s/membership.ts";
import { ZooKeeperMembership } from "../src/s2s/zookeeper.ts";
import { library, type LibraryClient } from "../src/s2s/zookeeper_library.ts";
import { within } from "./harness_within.ts";
import type { ChildMember } from "./zookeeper_member.ts";

/** Where the cluster of the tests has its nodes. */
export const NODES = "/pushd/pushd/nodes";

const records: LogRecord[] = [];
await configure({
  reset: true,
  sinks: { records: (record) => records.push(record) },
  loggers: [
    { category: ["pushd"], lowestLevel: "debug", sinks: ["records"] },
    { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
  ],
});

/** Waits until something is so. */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  ms?: number,
): Promise<void> {
  let isLate = false;
  const polling = (async () => {
    while (!isLate && !await isSo()) await new Promise((resolve) => setTimeout(resolve, 10));
  })();
  await within(() => what, polling, { ms, onLate: () => isLate = true });
}

/** What a node says of itself. */
export function infoOf(id: string, incarnation = "1"): MemberInfo {
  return {
    id,
    incarnation,
    s2sAddr: "127.0.0.1:2223",
    clientAddr: "127.0.0.1:2222",
    version: "0.1.0",
  };
}

let watched = 0;

/** A membership, and all that it told. */
export class Watched implements AsyncDisposable {
  readonly membership: ZooKeeperMembership;
  readonly told: (readonly Member[])[] = [];
  readonly #category = `s2s.test${++watched}`;

  constructor(
    readonly info: MemberInfo,
    servers: readonly string[],
    { sessionTimeoutMs = 2000, maxMembers = 1000 } = {},
  ) {
    this.membership = new ZooKeeperMembership({
      servers,
      cluster: "pushd",
      sessionTimeoutMs,
      maxMembers,
      logger: getLogger(this.#category),
    });
    this.membership.start(info, { onMembers: (members) => this.told.push(members) });
  }

  /** The ids it told last, `none` before. */
  get ids(): string {
    return this.told.at(-1)?.map(({ info }) => info?.id).join(" ") ?? "none";
  }

  async untilIds(ids: string, ms?: number): Promise<void> {
    const expected = ids.split(" ").sort().join(" ");
    const what = () => `${this.info.id} to see ${ids}; it sees ${this.ids}`;
    await until(what(), () => this.ids.split(" ").sort().join(" ") === expected, ms);
  }

  async untilUp(isUp: boolean, ms?: number): Promise<void> {
    await until(
      `${this.info.id} to be ${isUp ? "up" : "down"}`,
      () => this.membership.isUp === isUp,
      ms,
    );
  }

  /** The lines of its log that match: a warning or above, or of any level. */
  logged(text: RegExp, level: "any" | "warning" = "any"): LogRecord[] {
    const category = ["pushd", ...this.#category.split(".")].join();
    return records.filter((record) =>
      record.category.join() === category && text.test(`${record.rawMessage}`) &&
      (level === "any" || record.level === level)
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.membership.stop(1000);
  }
}

/** A client of the library as it is, to look at the znodes and to interfere. */
export class Admin implements AsyncDisposable {
  readonly #client: LibraryClient;
  readonly #closed = Promise.withResolvers<void>();

  private constructor(addr: string) {
    this.#client = library.createClient(addr, { sessionTimeout: 5000, spinDelay: 50, retries: 0 });
  }

  static async connect(addr: string): Promise<Admin> {
    const admin = new Admin(addr);
    const connected = new Promise<void>((resolve) => admin.#client.on("connected", resolve));
    admin.#client.on("disconnected", () => admin.#closed.resolve());
    admin.#client.connect();
    await within(() => "the admin to connect", connected);
    return admin;
  }

  /** The text of a znode and its owner (16 hex digits), or null where there is none. */
  get(path: string): Promise<{ text: string; owner: string } | null> {
    return new Promise((resolve, reject) =>
      this.#client.getData(path, undefined, (error, data, stat) => {
        if (error?.getCode() === library.Exception.NO_NODE) resolve(null);
        else if (error) reject(error);
        else resolve({ text: `${data ?? ""}`, owner: stat.ephemeralOwner.toString("hex") });
      })
    );
  }

  create(path: string, data: string | Uint8Array, mode = 0): Promise<void> {
    const bytes = typeof data === "string" ? Buffer.from(data) : Buffer.from(data);
    return new Promise((resolve, reject) =>
      this.#client.create(path, bytes, mode, (error) => error ? reject(error) : resolve())
    );
  }

  set(path: string, text: string): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#client.setData(
        path,
        Buffer.from(text),
        -1,
        (error) => error ? reject(error) : resolve(),
      )
    );
  }

  remove(path: string): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#client.remove(path, (error) => error ? reject(error) : resolve())
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await within(() => "the admin to be disconnected", this.#closed.promise);
  }
}

/** Processes that have not ended; none of them is to outlive the tests. */
const running = new Set<Deno.ChildProcess>();
globalThis.addEventListener("unload", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A process of its own with memberships in it: tests/zookeeper_member.ts. */
export class MemberProcess implements AsyncDisposable {
  /** What it printed: `started`, and then the members, `id@incarnation` each. */
  readonly lines: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  readonly #errors: Promise<string>;

  private constructor(members: readonly ChildMember[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-check",
        "-A",
        new URL("./zookeeper_member.ts", import.meta.url).pathname,
        JSON.stringify(members),
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    running.add(this.#child);
    this.#reading = this.#read();
    this.#errors = new Response(this.#child.stderr).text();
  }

  static async start(members: readonly ChildMember[]): Promise<MemberProcess> {
    const process = new MemberProcess(members);
    await process.untilLine("started");
    return process;
  }

  get pid(): number {
    return this.#child.pid;
  }

  async untilLine(line: string): Promise<void> {
    await until(`the child to print ${line}`, () => this.lines.includes(line));
  }

  kill(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#child.kill(signal);
  }

  /** Ends it; returns what it printed on its standard error. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<{ code: number; errors: string }> {
    if (running.delete(this.#child)) this.#child.kill(signal);
    const { code } = await this.#child.status;
    await this.#reading;
    return { code, errors: await this.#errors };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      this.lines.push(...parts);
    }
  }
}
