// A ZooKeeper for tests: the real one of Debian's package, one server or an ensemble, on ports of its own.

import { dirname } from "node:path";
import { getAvailablePort } from "@std/net";
import { PATIENCE_MS, within } from "./harness_within.ts";
import { isStopped } from "./process.ts";
import { findTool, type Requirement } from "./require.ts";

/** Debian's package; it names the others that it needs. */
const JAR = "/usr/share/java/zookeeper.jar";
const MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
/** Starts fast and takes little; there is nothing to optimise for. */
const JAVA_OPTIONS = ["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];
/** A second or two on a free machine, and there are three of them in an ensemble. */
const START_MS = 4 * PATIENCE_MS;
/** How long a server that serves takes for an answer, at most. */
const PROBE_MS = 500;

/** Says whether a test that needs ZooKeeper can run here, as `requireTool` does for programs. */
export function requireZooKeeper(): Requirement {
  if (findTool("java") !== null && isFile(JAR)) return { ignore: false, reason: "" };
  const reason = "ZooKeeper is missing: apt-get install zookeeper default-jre-headless";
  if (Deno.env.get("PUSHD_TEST_REQUIRE") === "all") {
    Deno.test(reason, () => {
      throw new Error(reason);
    });
  }
  return { ignore: true, reason: ` (${reason})` };
}

/** How {@link startZooKeeper} starts one. */
export interface ZooKeeperSettings {
  /** The unit of its time, ms: sessions end at a multiple of it. */
  readonly tickMs?: number;
  /** The address of this machine at which clients are served. */
  readonly hostname?: string;
}

/** Servers that have not ended; none of them is to outlive the tests. */
const running = new Set<Deno.ChildProcess>();
globalThis.addEventListener("unload", () => {
  for (const child of running) signal(child, "SIGKILL");
});

/** Starts a single server, with nothing in it, and waits until it serves. */
export async function startZooKeeper(settings: ZooKeeperSettings = {}): Promise<ZooKeeperServer> {
  const { servers: [server] } = await startEnsemble(1, settings);
  return server;
}

/** Servers that are one ZooKeeper together. */
export interface Ensemble extends AsyncDisposable {
  readonly servers: readonly ZooKeeperServer[];
  /** `host:port` of each. */
  readonly addrs: readonly string[];
}

/** Starts an ensemble, and waits until every server serves. */
export async function startEnsemble(
  size = 3,
  { tickMs = 250, hostname = "127.0.0.1" }: ZooKeeperSettings = {},
): Promise<Ensemble> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-zookeeper-" });
  const ports = freePorts(size === 1 ? 1 : 3 * size);
  const clientPorts = ports.slice(0, size);
  const lines = [
    `tickTime=${tickMs}`,
    // Whatever is asked for is given; by default it is at least two ticks.
    "minSessionTimeout=100",
    "maxSessionTimeout=60000",
    "admin.enableServer=false",
    "4lw.commands.whitelist=srvr",
    // On a busy machine a server may take its time to find the others.
    "initLimit=40",
    "syncLimit=20",
    ...(size === 1 ? [] : clientPorts.map((_, i) => {
      const [peers, election] = ports.slice(size + 2 * i);
      return `server.${i + 1}=127.0.0.1:${peers}:${election}`;
    })),
  ];
  const servers = clientPorts.map((port, i) =>
    new ZooKeeperServer(`${folder}/${i + 1}`, i + 1, { hostname, port, lines })
  );
  const ensemble: Ensemble = {
    servers,
    addrs: servers.map(({ addr }) => addr),
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
    },
  };
  try {
    await Promise.all(servers.map((server) => server.restart()));
  } catch (error) {
    await ensemble[Symbol.asyncDispose]();
    throw error;
  }
  return ensemble;
}

/** One server. */
export class ZooKeeperServer implements AsyncDisposable {
  /** `host:port`. */
  readonly addr: string;
  readonly #folder: string;
  readonly #id: number;
  readonly #hostname: string;
  readonly #port: number;
  readonly #lines: readonly string[];
  #child: Deno.ChildProcess | undefined;

  constructor(
    folder: string,
    id: number,
    { hostname, port, lines }: { hostname: string; port: number; lines: readonly string[] },
  ) {
    this.#folder = folder;
    this.#id = id;
    this.#hostname = hostname;
    this.#port = port;
    this.#lines = lines;
    this.addr = `${hostname}:${port}`;
  }

  /** Starts it, again after {@link kill} with what it had stored, and waits until it serves. */
  async restart(): Promise<void> {
    await this.#write();
    const child = new Deno.Command("java", {
      args: [...JAVA_OPTIONS, "-cp", JAR, MAIN, `${this.#folder}/zoo.cfg`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#child = child;
    running.add(child);
    let hasEnded = false;
    const ended = child.status.then(({ code }) => {
      hasEnded = true;
      running.delete(child);
      throw new Error(`ZooKeeper at ${this.addr} ended with ${code}`);
    });
    // It ends some time; only while it is waited for is that a failure.
    ended.catch(() => {});
    let isLate = false;
    const serving = (async () => {
      while (!isLate && !hasEnded && !await isServing(this.#hostname, this.#port)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    const onLate = () => isLate = true;
    await within(() => `ZooKeeper at ${this.addr} to serve`, Promise.race([serving, ended]), {
      ms: START_MS,
      onLate,
    });
  }

  /** SIGKILL, and waits for its end. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    signal(child, "SIGKILL");
    await child.status;
  }

  /** SIGSTOP: it takes connections and answers nothing. */
  pause(): void {
    if (this.#child === undefined) return;
    signal(this.#child, "SIGSTOP");
    // A thread that runs stops a moment later, and might still answer.
    while (!isStopped(this.#child.pid));
  }

  /** SIGCONT. */
  resume(): void {
    if (this.#child !== undefined) signal(this.#child, "SIGCONT");
  }

  /** Removes what is stored, of a server that was killed. */
  async wipe(): Promise<void> {
    if (this.#child !== undefined) throw new Error(`${this.addr} runs; kill it first`);
    await Deno.remove(this.#folder, { recursive: true });
  }

  /** Kills it, and removes its folder; the last one of an ensemble also the one that held them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await Deno.remove(this.#folder, { recursive: true }).catch(() => {
      // It was wiped.
    });
    await Deno.remove(dirname(this.#folder)).catch(() => {
      // Others are in it.
    });
  }

  async #write(): Promise<void> {
    await Deno.mkdir(`${this.#folder}/data`, { recursive: true });
    await Deno.writeTextFile(`${this.#folder}/data/myid`, `${this.#id}\n`);
    await Deno.writeTextFile(
      `${this.#folder}/zoo.cfg`,
      [
        ...this.#lines,
        `dataDir=${this.#folder}/data`,
        `clientPort=${this.#port}`,
        `clientPortAddress=${this.#hostname}`,
        "",
      ].join("\n"),
    );
  }
}

/**
 * Free ports, all different. Below those that the system gives to connections, so that none of them takes the
 * port of a server that is down for a while; by chance, so that tests side by side take others.
 */
function freePorts(count: number): number[] {
  const ports = new Set<number>();
  while (ports.size < count) {
    const preferredPort = 12_000 + Math.floor(Math.random() * 20_000);
    if (getAvailablePort({ preferredPort }) === preferredPort) ports.add(preferredPort);
  }
  return [...ports];
}

/**
 * Whether a server takes part in an ensemble, or serves alone: "srvr" then names its mode. A connection that is
 * made in the moment it starts may never be answered, while later ones are (seen with 3.8.0).
 */
async function isServing(hostname: string, port: number): Promise<boolean> {
  let conn: Deno.TcpConn;
  try {
    conn = await Deno.connect({ hostname, port });
  } catch {
    return false;
  }
  const close = () => {
    try {
      conn.close();
    } catch {
      // It is.
    }
  };
  const timer = setTimeout(close, PROBE_MS);
  try {
    await conn.write(new TextEncoder().encode("srvr"));
    const answer = await new Response(conn.readable).text();
    return /^Mode: /m.test(answer);
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    close();
  }
}

function signal(child: Deno.ChildProcess, name: Deno.Signal): void {
  try {
    child.kill(name);
  } catch {
    // It has ended by itself.
  }
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
