// Measures how long a server takes from its start to the first subscription, and its memory then, beside
// nats-server and redis-server in the same run, turn about: deno run -A scripts/bench/start.ts [RUNS]
// deno-lint-ignore-file no-console

import { fileURLToPath } from "node:url";
import { ownTarget } from "../compile.ts";

interface Candidate {
  name: string;
  /** The program and its arguments, for a port. */
  command(port: number): string[];
  env(port: number): Record<string, string>;
  /** What a client sends at once, and what is in the answer to that. */
  ask: string;
  answer: string;
}

interface Result {
  ms: number;
  residentMb: number;
}

const BINARY = Deno.env.get("PUSHD_BIN") ||
  fileURLToPath(new URL(`../../bin/pushd.${ownTarget()}`, import.meta.url));
/** Memory is looked at when a server has come to rest, ms. */
const REST_MS = 1500;
const START_TIMEOUT_MS = 30_000;
/** Below those that the kernel gives to clients: one that dials such a port again and again meets itself. */
let nextPort = 21_000;

const CANDIDATES: Candidate[] = [
  {
    name: "pushd",
    command: () => [BINARY],
    env: (port) => ({
      PUSHD_TCP_LISTEN_ADDR: `127.0.0.1:${port}`,
      PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
    }),
    ask: "sub c\n",
    answer: "SUBSCRIBED c",
  },
  {
    name: "nats-server",
    command: (
      port,
    ) => [Deno.env.get("NATS_BIN") || "nats-server", "-a", "127.0.0.1", "-p", `${port}`],
    env: () => ({}),
    ask: "CONNECT {}\r\nSUB c 1\r\nPING\r\n",
    answer: "PONG",
  },
  {
    name: "redis-server",
    command: (port) => ["redis-server", "--bind", "127.0.0.1", "--port", `${port}`, "--save", ""],
    env: () => ({}),
    ask: "SUBSCRIBE c\r\n",
    answer: ":1\r\n",
  },
];

async function connect(port: number, endMs: number): Promise<Deno.TcpConn> {
  for (;;) {
    try {
      return await Deno.connect({ hostname: "127.0.0.1", port });
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

async function measure({ command, env, ask, answer }: Candidate): Promise<Result> {
  const port = nextPort++;
  const cwd = await Deno.makeTempDir({ prefix: "pushd-start-" });
  const [program, ...args] = command(port);
  const startMs = performance.now();
  const child = new Deno.Command(program, {
    args,
    cwd,
    env: env(port),
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    using conn = await connect(port, startMs + START_TIMEOUT_MS);
    await conn.write(new TextEncoder().encode(ask));
    const buffer = new Uint8Array(4096);
    let text = "";
    while (!text.includes(answer)) {
      const count = await conn.read(buffer);
      if (count === null) throw new Error(`${program} closed; it said ${text}`);
      text += new TextDecoder().decode(buffer.subarray(0, count));
    }
    const ms = performance.now() - startMs;
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    const status = await Deno.readTextFile(`/proc/${child.pid}/status`);
    return { ms, residentMb: Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1]) / 1024 };
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await Deno.remove(cwd, { recursive: true });
  }
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

const runs = Number(Deno.args[0] ?? 11);
const results = new Map<string, Result[]>(CANDIDATES.map(({ name }) => [name, []]));
for (let run = 0; run < runs; run++) {
  for (const candidate of CANDIDATES) results.get(candidate.name)?.push(await measure(candidate));
}
console.log(`| start to the first subscription, ${runs} runs | median ms | least ms | memory MB |`);
console.log("| --- | --- | --- | --- |");
for (const [name, all] of results) {
  const ms = all.map((result) => result.ms);
  const residentMb = median(all.map((result) => result.residentMb));
  console.log(
    `| ${name} | ${median(ms).toFixed(0)} | ${Math.min(...ms).toFixed(0)} | ${
      residentMb.toFixed(0)
    } |`,
  );
}
