// What outlives a restart besides messages, a thousand clients that resume at once, and what has been deleted meanwhile.

import assert from "node:assert/strict";
import { Client, errorLine, startPushd, within } from "./harness.ts";
import { readHistory } from "./history_reader.ts";
import { connectMany } from "./load_client.ts";
import { LASTING, STORES } from "./stores.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const CLIENTS = 1000;

for (const store of LASTING) {
  Deno.test({
    name: `${CLIENTS} clients come back at once after a restart, ${store.name}${store.reason}`,
    ignore: store.ignore,
    async fn() {
      await using place = await store.open();
      const stamps: number[] = [];
      {
        await using pushd = await startPushd({ config: place.config });
        using client = await Client.connect(pushd.port);
        for (let i = 0; i < 300; i += 50) {
          await client.send(`pub c ${"x".repeat(200)}\n`.repeat(50));
          for (let k = 0; k < 50; k++) stamps.push(Number((await client.expect(PUBLISHED))[1]));
        }
        await pushd.kill();
      }
      await using pushd = await startPushd({ config: place.config });
      const clients = await connectMany(pushd.port, CLIENTS);
      using bystander = await Client.connect(pushd.port);
      let isOver = false;
      let worstMs = 0;
      const pinging = (async () => {
        while (!isOver) {
          const askedMs = performance.now();
          await bystander.ask("ping", "PONG");
          worstMs = Math.max(worstMs, performance.now() - askedMs);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      })();
      const startMs = performance.now();
      const served = clients.map(async (client, i) => {
        // All have missed something else.
        const at = stamps.length - 1 - i % 100;
        const due = stamps.slice(at + 1);
        await client.send(`sub c ${stamps[at]}\n`);
        assert.equal(await client.line(), `SUBSCRIBED c ${due.length}`);
        for (const ts of due) assert.ok((await client.line())?.startsWith(`MESSAGE c ${ts} `));
      });
      await within(() => "all clients to have what they missed", Promise.all(served));
      const ms = performance.now() - startMs;
      isOver = true;
      await pinging;
      // Some 500 ms.
      assert.ok(ms < 10_000, `it took ${ms} ms`);
      assert.ok(worstMs < 1000, `a ping took ${worstMs} ms`);
      const [, ts] = await bystander.ask("pub c live", PUBLISHED);
      await within(
        () => "the live message",
        Promise.all(clients.map(async (client) => {
          assert.equal(await client.line(), `MESSAGE c ${ts} live`);
        })),
      );
      for (const client of clients) client.close();
    },
  });

  Deno.test({
    name: `tokens outlive a restart, ${store.name}${store.reason}`,
    ignore: store.ignore,
    async fn() {
      await using place = await store.open();
      const config = {
        ...place.config,
        auth: "on",
        apps: [{ id: "a", secret: "sa" }, { id: "a:b", secret: "sb" }],
      };
      const tokens: string[] = [];
      {
        await using pushd = await startPushd({ config });
        using backend = await Client.connect(pushd.port);
        await backend.ask("auth_server a sa", "AUTHENTICATED a");
        for (const user of ["ann", "bob", "cid"]) {
          tokens.push((await backend.ask(`gettoken ${user}`, /^TOKEN \S+ (\S+)$/))[1]);
        }
        using ann = await Client.connect(pushd.port);
        await ann.ask(`auth ann ${tokens[0]}`, "AUTHENTICATED ann");
        await pushd.kill();
      }
      await using pushd = await startPushd({ config });
      const refused = errorLine("auth-failed");
      using ann = await Client.connect(pushd.port);
      // Used up, and not good for another.
      await ann.ask(`auth ann ${tokens[0]}`, refused);
      await ann.ask(`auth ann ${tokens[1]}`, refused);
      using bob = await Client.connect(pushd.port);
      await bob.ask(`auth bob ${tokens[1]}`, "AUTHENTICATED bob");
      await bob.ask("sub b:c", "SUBSCRIBED b:c");
      using cid = await Client.connect(pushd.port);
      await cid.ask(`auth cid ${tokens[2]}`, "AUTHENTICATED cid");
      const [, ts] = await cid.ask("pub b:c x", PUBLISHED);
      await bob.expect(`MESSAGE b:c ${ts} x`);
      // The other application, whose names run into those of this one.
      using other = await Client.connect(pushd.port);
      await other.ask("auth_server a:b sb", "AUTHENTICATED a:b");
      for (const channel of ["c", "b:c"]) {
        assert.deepEqual(await readHistory(other, channel), []);
      }
      const [kept] = await readHistory(bob, "b:c");
      assert.equal(kept.from, "cid");
    },
  });
}

for (const store of STORES) {
  Deno.test({
    name: `one token on two connections at once, ${store.name}${store.reason}`,
    ignore: store.ignore,
    async fn() {
      await using place = await store.open();
      await using pushd = await startPushd({
        config: { ...place.config, auth: "on", apps: [{ id: "a", secret: "s" }] },
      });
      using backend = await Client.connect(pushd.port);
      await backend.ask("auth_server a s", "AUTHENTICATED a");
      // The first wrong tries of an address are answered at once, further ones are not.
      for (let round = 0; round < 5; round++) {
        const [, token] = await backend.ask(`gettoken u${round}`, /^TOKEN \S+ (\S+)$/);
        using one = await Client.connect(pushd.port);
        using two = await Client.connect(pushd.port);
        await Promise.all([one, two].map((client) => client.send(`auth u${round} ${token}\n`)));
        const answers = (await Promise.all([one.line(), two.line()])).sort();
        assert.equal(answers[0], `AUTHENTICATED u${round}`);
        assert.match(answers[1], errorLine("auth-failed"));
      }
    },
  });
}
