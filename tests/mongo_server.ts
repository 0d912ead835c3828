// A MongoDB for tests: the one that is named, or mongod, or FerretDB, which is built for them.

import { connect } from "node:net";
import { getAvailablePort } from "@std/net";
import { MongoClient } from "mongodb";
import { messageOf } from "../src/core/message_of.ts";
import { PATIENCE_MS, within } from "./harness_within.ts";
import { isStopped } from "./process.ts";
import { findTool, type Requirement } from "./require.ts";

const FERRETDB = new URL("./ferretdb/", import.meta.url).pathname;
const BUILD_TIMEOUT_MS = 600_000;

/** Where the database of the tests comes from. */
type Source =
  | { readonly kind: "given"; readonly url: string }
  | { readonly kind: "mongod" | "ferretdb"; readonly program: string };

let source: Promise<Source> | undefined;

/**
 * Says whether a test that needs MongoDB can run here, as `requireTool` does for programs. Where there
 * is no other it builds FerretDB with Go, which takes a minute or two for the first time.
 */
export async function requireMongo(options: { own?: boolean } = {}): Promise<Requirement> {
  let reason: string;
  try {
    const { kind } = await (source ??= findSource());
    if (kind !== "given" || options.own !== true) return { ignore: false, reason: "" };
    reason = "the server in PUSHD_TEST_MONGODB_URL cannot be stopped: unset it";
  } catch (error) {
    reason = messageOf(error);
  }
  if (Deno.env.get("PUSHD_TEST_REQUIRE") === "all") {
    Deno.test(reason, () => {
      throw new Error(reason);
    });
  }
  return { ignore: true, reason: ` (${reason})` };
}

async function findSource(): Promise<Source> {
  const url = Deno.env.get("PUSHD_TEST_MONGODB_URL") ?? "";
  if (url !== "") return { kind: "given", url };
  const mongod = findTool("mongod");
  if (mongod !== null) return { kind: "mongod", program: mongod };
  return { kind: "ferretdb", program: await buildFerretdb() };
}

/** Builds FerretDB unless this version of it has been; returns the program. */
async function buildFerretdb(): Promise<string> {
  const hash = await hashSources();
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "/tmp"}/.cache`;
  const folder = `${cache}/pushd-tests`;
  const program = `${folder}/ferretdb-${hash}`;
  if (findTool(`ferretdb-${hash}`, [folder]) !== null) return program;
  const go = findTool("go");
  if (go === null) {
    throw new Error("no MongoDB: install mongod or Go, or set PUSHD_TEST_MONGODB_URL");
  }
  await Deno.mkdir(folder, { recursive: true });
  // Under a name of its own, so that nobody runs what another is still writing.
  const unfinished = `${program}.${crypto.randomUUID()}`;
  try {
    const build = new Deno.Command(go, {
      args: ["build", "-buildvcs=false", "-o", unfinished, "."],
      cwd: FERRETDB,
      signal: AbortSignal.timeout(BUILD_TIMEOUT_MS),
      stdout: "null",
      stderr: "piped",
    });
    const { success, stderr } = await build.output();
    if (!success) {
      const last = new TextDecoder().decode(stderr).trim().split("\n").at(-1);
      throw new Error(`no MongoDB: go build in tests/ferretdb failed: ${last}`);
    }
    await Deno.rename(unfinished, program);
  } finally {
    await Deno.remove(unfinished).catch(() => {});
  }
  return program;
}

async function hashSources(): Promise<string> {
  const texts = ["main.go", "go.mod", "go.sum"].map((name) =>
    Deno.readTextFile(`${FERRETDB}${name}`)
  );
  const bytes = new TextEncoder().encode((await Promise.all(texts)).join("\0"));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return digest.slice(0, 8).toHex();
}

/** Servers that have not ended; none of them is to outlive the tests. */
const running = new Set<Deno.ChildProcess>();
globalThis.addEventListener("unload", () => {
  for (const child of running) {
    try {
      child.kill("SIGKILL");
    } catch {
      // Ended meanwhile.
    }
  }
});

/** A MongoDB server under test. */
export interface MongoServer extends AsyncDisposable {
  /** Its connection string, without a database. */
  readonly url: string;
  /** `host:port`. */
  readonly addr: string;
  /** 0 where the server is not a child of the tests. */
  readonly pid: number;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
  /** SIGSTOP: it takes connections and answers nothing. */
  stop(): void;
  /** SIGCONT. */
  cont(): void;
  /** Starts it again after {@link kill}, on the same port and with its data. */
  restart(): Promise<void>;
}

/** Starts a server with no data, or names the one in PUSHD_TEST_MONGODB_URL; see {@link requireMongo}. */
export async function startMongo(): Promise<MongoServer> {
  const found = await (source ??= findSource());
  if (found.kind === "given") return new GivenMongo(found.url);
  const folder = await Deno.makeTempDir({ prefix: "pushd-mongo-", dir: await memoryFolder() });
  const server = new OwnMongo(found.kind, found.program, folder, getAvailablePort());
  try {
    await server.restart();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

/**
 * A folder in memory where the system has one: what survives a power cut is for the server's own tests, and
 * waiting for the disk made some of ours twenty times slower.
 */
async function memoryFolder(): Promise<string | undefined> {
  const { isDirectory } = await Deno.stat("/dev/shm").catch(() => ({ isDirectory: false }));
  return isDirectory ? "/dev/shm" : undefined;
}

let databases = 0;

/** A name for a database that no other test uses. */
export function freshDatabase(): string {
  return `pushd_test_${Deno.pid}_${Date.now().toString(36)}_${++databases}`;
}

/** Removes a database from a server. */
export async function dropDatabase(url: string, database: string): Promise<void> {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: PATIENCE_MS });
  try {
    await client.db(database).dropDatabase();
  } finally {
    await client.close();
  }
}

class GivenMongo implements MongoServer {
  readonly pid = 0;
  readonly addr: string;

  constructor(readonly url: string) {
    this.addr = url.replace(/^[^:]*:\/\/(?:[^@]*@)?/, "").split(/[/?,]/, 1)[0];
  }

  kill(): Promise<void> {
    return Promise.reject(new Error("the server is not the tests' own"));
  }

  stop(): void {
    throw new Error("the server is not the tests' own");
  }

  cont(): void {
    throw new Error("the server is not the tests' own");
  }

  restart(): Promise<void> {
    return this.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // It goes on.
  }
}

class OwnMongo implements MongoServer {
  readonly addr: string;
  readonly url: string;
  #child: Deno.ChildProcess | undefined;

  constructor(
    readonly kind: "mongod" | "ferretdb",
    readonly program: string,
    readonly folder: string,
    readonly port: number,
  ) {
    this.addr = `127.0.0.1:${port}`;
    this.url = `mongodb://${this.addr}/`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async restart(): Promise<void> {
    const { kind, folder, port, addr } = this;
    const args = kind === "mongod"
      ? ["--bind_ip", "127.0.0.1", "--port", `${port}`, "--dbpath", folder, "--quiet"]
      : ["-listen", addr, "-dir", folder];
    const child = new Deno.Command(this.program, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#child = child;
    running.add(child);
    let hasEnded = false;
    const ended = child.status.then(({ code }) => {
      hasEnded = true;
      throw new Error(`${this.program} ended with ${code}`);
    });
    // It ends some time; only while it is waited for is that a failure.
    ended.catch(() => {});
    let isLate = false;
    const listening = (async () => {
      while (!isLate && !hasEnded && !await canConnect(port)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    const onLate = () => isLate = true;
    await within(() => `${kind} to listen`, Promise.race([listening, ended]), { onLate });
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await child.status;
    running.delete(child);
  }

  stop(): void {
    this.#child?.kill("SIGSTOP");
    // A thread that runs stops a moment later, and might still answer.
    while (this.#child !== undefined && !isStopped(this.#child.pid));
  }

  cont(): void {
    this.#child?.kill("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await Deno.remove(this.folder, { recursive: true });
  }
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    const end = (isThere: boolean) => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
  });
}
