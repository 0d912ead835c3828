// A cluster whose nodes share one history in MongoDB.

import assert from "node:assert/strict";
import { LoopbackCluster } from "./cluster_loopback.ts";
import { errorLine } from "./harness.ts";
import { freshDatabase, requireMongo, startMongo } from "./mongo_server.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
/** Messages of each node. */
const COUNT = 50;

const { ignore, reason } = await requireMongo();
Deno.test({
  name: `cluster: one history in MongoDB, whoever accepted it and whoever is down${reason}`,
  ignore,
  async fn() {
    await using mongo = await startMongo();
    const config = {
      msg_storage: "mongodb",
      mongodb: { url: mongo.url, database: freshDatabase() },
      auth: "on",
      apps: [{ id: "a", secret: "s" }],
      s2s_session_timeout: "2s",
    };
    await using cluster = await LoopbackCluster.start(3, { config });
    const login = async (i: number) => {
      const client = await cluster.connect(i);
      await client.ask("auth_server a s", "AUTHENTICATED a");
      return client;
    };
    using a = await login(0);
    using b = await login(1);
    using live = await login(2);
    await live.ask("sub c", "SUBSCRIBED c");
    const texts: string[] = [];
    for (let i = 0; i < COUNT; i++) {
      for (const [name, client] of [["a", a], ["b", b]] as const) {
        texts.push(`${name}${i}`);
        const [, ts] = await client.ask(`pub c ${name}${i}`, PUBLISHED);
        await live.expect(`MESSAGE c ${ts} ${name}${i}`);
      }
    }
    const historyOf = async (client: typeof a, channel = "c") => {
      const [, partial, json] = await client.ask(
        `his ${channel} 0`,
        /^HISTORY \S+ (PARTIAL )?(\[.*\])$/,
      );
      assert.equal(partial, undefined);
      const kept: { msg: string; node: string; ts: number }[] = JSON.parse(json);
      return kept;
    };
    for (const client of [a, b, live]) {
      assert.deepEqual((await historyOf(client)).map(({ msg }) => msg), texts);
    }
    // A token of one node, on another.
    const [, token] = await a.ask("gettoken user", /^TOKEN user (\S+)$/);
    using user = await cluster.connect(1);
    await user.ask(`auth user ${token}`, "AUTHENTICATED user");
    using second = await cluster.connect(0);
    await second.ask(`auth user ${token}`, errorLine("auth-failed"));
    // What a node that was killed had accepted is everybody's.
    await cluster.nodes[1].kill();
    for (const client of [a, live]) assert.equal((await historyOf(client)).length, texts.length);
    using late = await login(0);
    await late.ask("sub c 0", `SUBSCRIBED c ${texts.length}`);
    for (const text of texts) await late.expect(new RegExp(`^MESSAGE c \\d{16} ${text}$`));
    const [, ts] = await a.ask("pub c after", PUBLISHED);
    await late.expect(`MESSAGE c ${ts} after`);
    await live.expect(`MESSAGE c ${ts} after`);
  },
});
