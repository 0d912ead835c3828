// One life of a server with several applications, who takes part in it, and what its log must not tell.

import assert from "node:assert/strict";
import { Stranger } from "./apps_stranger.ts";
import { Client, type Pushd, startPushd } from "./harness.ts";

/** An application, as in the configuration. */
export interface TestApp {
  id: string;
  secret: string;
}

/** Their ids and the channels' and users' names run into each other under any of these joiners. */
export const JOINERS = [":", "/", ".", "|"];

function newSecret(): string {
  return `hush-${crypto.randomUUID()}`;
}

/** The applications of every server here. */
export const APPS: readonly TestApp[] = ["a", ...JOINERS.map((j) => `a${j}b`), "__proto__"]
  .map((id) => ({ id, secret: newSecret() }));

/** Each application with another one. */
export const PAIRS: readonly (readonly [own: TestApp, other: TestApp])[] = APPS.map((app, i) =>
  [app, APPS[(i + 1) % APPS.length]] as const
);

/** A secret or token that is not good. */
export function wrongWord(): string {
  return `wrong-${crypto.randomUUID()}`;
}

const OTHER_SECRETS = { stats_token: newSecret(), s2s_secret: newSecret(), password: newSecret() };

/** A server from its start to its end. */
export class Life implements AsyncDisposable {
  /** What neither the log nor the statistics may show, beside what strangers have offered. */
  #secrets = new Set([
    ...APPS.map(({ secret }) => secret),
    ...Object.values(OTHER_SECRETS),
  ]);

  #strangers: Stranger[] = [];
  #servers = new Map<TestApp, Promise<Client>>();
  #open = new DisposableStack();

  private constructor(readonly pushd: Pushd) {}

  /** Starts one with these keys and those of every server here. */
  static async start(own: Record<string, unknown>, tokenTtlMs: number): Promise<Life> {
    const { stats_token, s2s_secret, password } = OTHER_SECRETS;
    const mongodb = { ...own.mongodb as Record<string, unknown> | undefined, password };
    const config = {
      ...own,
      mongodb,
      stats_token,
      s2s_secret,
      node_id: "n1",
      auth: "on",
      auth_timeout: "1m",
      token_ttl: `${tokenTtlMs}ms`,
      apps: APPS,
    };
    // It is to be silent about secrets where it says the most.
    return new Life(await startPushd({ config, args: ["--level", "debug"] }));
  }

  /** A connection that has not authenticated. */
  async connect(): Promise<Client> {
    return this.#open.use(await Client.connect(this.pushd.port));
  }

  /** A connection that is not authenticated and has an address of its own, or this one. */
  async stranger(address?: string): Promise<Stranger> {
    const stranger = this.#open.use(await Stranger.connect(this.pushd.port, address));
    this.#strangers.push(stranger);
    return stranger;
  }

  /** The application's server: always the same connection, which follows nothing. */
  server(app: TestApp): Promise<Client> {
    let server = this.#servers.get(app);
    if (server === undefined) this.#servers.set(app, server = this.newServer(app));
    return server;
  }

  /** A further connection of it. */
  async newServer({ id, secret }: TestApp): Promise<Client> {
    const server = await this.connect();
    await server.ask(`auth_server ${id} ${secret}`, `AUTHENTICATED ${id}`);
    return server;
  }

  /** A token for each of the users. Not twice at once: an application's server has one stream of replies. */
  async tokens(app: TestApp, users: readonly string[]): Promise<string[]> {
    const server = await this.server(app);
    await server.send(users.map((user) => `gettoken ${user}\n`).join(""));
    const tokens: string[] = [];
    for (const user of users) {
      const [, name, token] = await server.expect(/^TOKEN (\S+) ([\w-]{22,})$/);
      assert.equal(name, user);
      tokens.push(token);
      this.#secrets.add(token);
    }
    return tokens;
  }

  async token(app: TestApp, user: string): Promise<string> {
    const [token] = await this.tokens(app, [user]);
    return token;
  }

  /** A connection of each of the users. */
  async users(app: TestApp, users: readonly string[]): Promise<Client[]> {
    const tokens = await this.tokens(app, users);
    return await Promise.all(users.map(async (user, i) => {
      const client = await this.connect();
      await client.ask(`auth ${user} ${tokens[i]}`, `AUTHENTICATED ${user}`);
      return client;
    }));
  }

  async user(app: TestApp, user: string): Promise<Client> {
    const [client] = await this.users(app, [user]);
    return client;
  }

  /** What was said to those who were refused, by command; each once. */
  refusals(): Map<string, Set<string>> {
    const said = new Map<string, Set<string>>();
    for (const { command, line } of this.#strangers.flatMap(({ failures }) => failures)) {
      said.set(command, (said.get(command) ?? new Set()).add(line));
    }
    return said;
  }

  /** The statistics name every secret of the configuration and show none of them, nor any token. */
  async checkStatistics(): Promise<void> {
    const refused = await this.pushd.get("/s/stat");
    assert.equal(refused.status, 401);
    this.#assertSilent("a refused /s/stat", await refused.text());
    const headers = { Authorization: `Bearer ${OTHER_SECRETS.stats_token}` };
    const response = await this.pushd.get("/s/stat", { headers });
    const text = await response.text();
    this.#assertSilent("/s/stat", text);
    const { conf } = JSON.parse(text);
    assert.deepEqual(conf.apps, APPS.map(({ id }) => ({ id, secret: "***" })));
    const { stats_token, s2s_secret, mongodb: { password } } = conf;
    assert.deepEqual([stats_token, s2s_secret, password], ["***", "***", "***"]);
  }

  /** Messages accepted so far. */
  async published(): Promise<number> {
    const headers = { Authorization: `Bearer ${OTHER_SECRETS.stats_token}` };
    const response = await this.pushd.get("/s/stat", { headers });
    const { stats } = await response.json();
    return stats.published;
  }

  /** Stops it in order and reads what it has logged. */
  async stopAndCheckLog(): Promise<void> {
    this.#open.dispose();
    assert.deepEqual(await this.pushd.stop(), { code: 0, signal: null });
    const log = this.pushd.log();
    this.#assertSilent("the log", log);
    this.#assertSilent("standard error", this.pushd.stderr);
    // And it does tell who has tried what, each time.
    const told = log.matchAll(/ refused command=(\S+) reason="\w[^"]*" address=(127\.1\.\S+)$/gm);
    const tries = this.#strangers.flatMap(({ failures, address }) =>
      failures.map(({ command }) => `${command} from ${address}`)
    );
    assert.ok(tries.length > 0, "nobody was refused");
    const logged = [...told].map(([, command, address]) => `${command} from ${address}`);
    assert.deepEqual(logged.sort(), tries.sort());
  }

  #assertSilent(what: string, text: string): void {
    const offered = this.#strangers.flatMap((stranger) => stranger.offered);
    for (const secret of [...this.#secrets, ...offered]) {
      assert.ok(!text.includes(secret), `${what} shows ${secret}:\n${text.slice(-20_000)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#open.dispose();
    await this.pushd[Symbol.asyncDispose]();
  }
}
