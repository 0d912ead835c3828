// How each server is found, and with which settings it is started.

import { MissingError, type ServerName, type ServerOptions } from "./known_servers.ts";
import { findProgram } from "./processes.ts";
import { sourceArgs } from "../start_task.ts";

export interface Launch {
  path: string;
  args: string[];
  /** The whole environment; left out, it is ours. */
  env?: Record<string, string>;
  /** What makes it tell its version instead. */
  versionArgs: string[];
}

export const SQLITE_FILE = "pushd.db";
const ROOT = new URL("../../", import.meta.url).pathname;

/** What starts a server that is to listen at the port and to keep its files in `cwd`. Throws a {@link MissingError}. */
export async function launch(
  name: ServerName,
  cwd: string,
  port: number,
  options: ServerOptions,
): Promise<Launch> {
  const durable = options.durable ?? false;
  switch (name) {
    case "pushd": {
      const run = await sourceArgs();
      return await launchPushd(Deno.execPath(), run, cwd, port, options);
    }
    case "binary":
      return await launchPushd(await findBinary(), [], cwd, port, options);
    case "nats":
      if (durable) return await launchJetStream(cwd, port);
      return {
        path: (await findNats())[0],
        args: options.tls === undefined
          ? ["-a", "127.0.0.1", "-p", String(port), ...options.args ?? []]
          : ["-c", await writeNatsTls(cwd, port, options.tls)],
        versionArgs: ["--version"],
      };
    case "redis":
      return {
        path: await installed("redis-server", "redis-server"),
        args: redisArgs(cwd, port, options),
        versionArgs: ["--version"],
      };
    case "mosquitto": {
      const conf = `${cwd}/mosquitto.conf`;
      await Deno.writeTextFile(conf, mosquittoConfig(port, options));
      return {
        path: await installed("mosquitto", "mosquitto"),
        args: ["-c", conf],
        versionArgs: ["-h"],
      };
    }
  }
}

async function writeNatsTls(
  cwd: string,
  port: number,
  { cert, key }: NonNullable<ServerOptions["tls"]>,
): Promise<string> {
  const conf = `${cwd}/nats.conf`;
  const [certFile, keyFile] = [cert, key].map((path) => JSON.stringify(path));
  await Deno.writeTextFile(
    conf,
    `listen: "127.0.0.1:${port}"
tls {
  cert_file: ${certFile}
  key_file: ${keyFile}
  # From the first byte on, as with the others; it came with 2.11.
  handshake_first: true
}
`,
  );
  return conf;
}

function redisArgs(cwd: string, port: number, options: ServerOptions): string[] {
  const { durable = false, tls, args = [] } = options;
  const secure = tls === undefined ? [] : [
    ...["--tls-port", String(port), "--tls-cert-file", tls.cert, "--tls-key-file", tls.key],
    ...["--tls-ca-cert-file", tls.cert, "--tls-auth-clients", "no"],
  ];
  return [
    ...["--bind", "127.0.0.1", "--port", tls === undefined ? String(port) : "0", "--dir", cwd],
    // Protected, it would take 127.0.0.1 alone for this machine, and not the crowd's other addresses.
    ...["--protected-mode", "no", "--save", ""],
    // A file rewritten in the middle of a run would be work for nobody's message.
    ...durable
      ? "--appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0".split(" ")
      : ["--appendonly", "no"],
    ...secure,
    ...args,
  ];
}

async function launchPushd(
  path: string,
  run: string[],
  cwd: string,
  port: number,
  options: ServerOptions,
): Promise<Launch> {
  const conf = `${cwd}/pushd.cf`;
  await Deno.writeTextFile(conf, pushdConfig(port, cwd, options));
  // A setting in the environment would win over the file.
  const env = Object.fromEntries(
    Object.entries(Deno.env.toObject()).filter(([name]) => !name.startsWith("PUSHD_")),
  );
  return { path, args: [...run, "--conf", conf], env, versionArgs: [...run, "--version"] };
}

async function findBinary(): Promise<string> {
  const named = Deno.env.get("PUSHD_BIN") || `${ROOT}bin/pushd.linux`;
  const path = await findProgram(named);
  if (path !== null) return await Deno.realPath(path);
  throw new MissingError(
    `${named} was not found: deno task compile:linux, or name one in PUSHD_BIN`,
  );
}

/** Every nats-server there is, the one to prefer first: the named one, that which Go has built, that on PATH. */
async function findNats(): Promise<string[]> {
  const go = Deno.env.get("GOPATH") || `${Deno.env.get("HOME") ?? ""}/go`;
  const names = [Deno.env.get("NATS_BIN") ?? "", `${go}/bin/nats-server`, "nats-server"];
  const paths = await Promise.all(names.map((name) => name === "" ? null : findProgram(name)));
  const found = paths.filter((path) => path !== null);
  if (found.length > 0) return found;
  throw new MissingError(
    "nats-server was not found: go install github.com/nats-io/nats-server/v2@latest, " +
      "or on Debian: apt-get install nats-server",
  );
}

/** `sync_interval: always` writes through to the disk before each `PubAck`; it came with 2.10. */
async function launchJetStream(cwd: string, port: number): Promise<Launch> {
  const conf = `${cwd}/nats.conf`;
  await Deno.writeTextFile(
    conf,
    `listen: "127.0.0.1:${port}"
jetstream {
  store_dir: ${JSON.stringify(`${cwd}/jetstream`)}
  sync_interval: always
  # By default it refuses what comes when 10,000 messages wait: less than the widest row has under way.
  max_buffered_msgs: 100000
}
`,
  );
  for (const path of await findNats()) {
    const { stdout } = await new Deno.Command(path, { args: ["--version"] }).output();
    const [, major, minor] = /v(\d+)\.(\d+)/.exec(new TextDecoder().decode(stdout)) ?? [];
    if (Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 11)) {
      return { path, args: ["-c", conf], versionArgs: ["--version"] };
    }
  }
  throw new MissingError(
    "JetStream that syncs always needs a nats-server from 2.11 on, and none was found: " +
      "go install github.com/nats-io/nats-server/v2@latest, or name one in NATS_BIN",
  );
}

/** As fast as it can: without a bound on what waits for a subscriber, and nothing kept. */
function mosquittoConfig(port: number, { args = [], tls }: ServerOptions): string {
  const lines = [
    // Started by root it would become another user, who may not read these files.
    "user root",
    `listener ${port} 127.0.0.1`,
    ...tls === undefined ? [] : [`certfile ${tls.cert}`, `keyfile ${tls.key}`],
    "allow_anonymous true",
    "persistence false",
    "max_queued_messages 0",
    "set_tcp_nodelay true",
    "log_type error",
    "log_dest stderr",
    ...args,
  ];
  return lines.join("\n") + "\n";
}

/** The others keep no published message, so by default pushd does not either. */
function pushdConfig(
  port: number,
  cwd: string,
  { storage, flushPolicy, cacheMessages, tls, config }: ServerOptions,
): string {
  return JSON.stringify({
    tcp_listen_addr: `127.0.0.1:${tls === undefined ? port : 0}`,
    ...(tls === undefined ? {} : {
      tls_listen_addr: `127.0.0.1:${port}`,
      tls_cert: tls.cert,
      tls_key: tls.key,
    }),
    stats_listen_addr: "",
    // It stands in every delivery of the JSON form.
    node_id: "bench",
    msg_storage: storage === "off" ? "" : storage,
    ...(flushPolicy === undefined ? {} : { msg_storage_flush_policy: flushPolicy }),
    ...(cacheMessages === undefined ? {} : { max_cache_msgs_every_channel: cacheMessages }),
    ...(storage === "sqlite" ? { sqlite: { path: `${cwd}/${SQLITE_FILE}` } } : {}),
    ...config,
  });
}

async function installed(program: string, debianPackage: string): Promise<string> {
  const path = await findProgram(program);
  if (path !== null) return path;
  throw new MissingError(`${program} was not found; on Debian: apt-get install ${debianPackage}`);
}
