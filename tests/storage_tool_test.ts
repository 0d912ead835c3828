// `pushd backup`, `storage export` and `storage import`, as an operator runs them.

import assert from "node:assert/strict";
import { Client, runPushd, startPushd } from "./harness.ts";
import { readHistory } from "./history_reader.ts";
import { Publisher } from "./publisher.ts";
import { LASTING, STORES } from "./stores.ts";

const sqlite = STORES.filter(({ name }) => name === "sqlite")[0];
const mongodb = STORES.filter(({ name }) => name === "mongodb")[0];

/** The environment that names a store, as PUSHD_… variables. */
function envOf(config: Record<string, unknown>): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    if (typeof value === "object" && value !== null) {
      for (const [leaf, inner] of Object.entries(value)) env[`${key}_${leaf}`] = `${inner}`;
    } else env[key] = `${value}`;
  }
  return Object.fromEntries(
    Object.entries(env).map(([key, value]) => [`PUSHD_${key.toUpperCase()}`, value]),
  );
}

Deno.test("a backup of a server under load is a history of its own", async () => {
  await using place = await sqlite.open();
  const folder = await Deno.makeTempDir({ prefix: "pushd-backup-" });
  try {
    await using pushd = await startPushd({ config: place.config });
    using client = await Client.connect(pushd.port);
    await client.ask("pub c before", /^PUBLISHED/);
    const publisher = await Publisher.start(pushd.port, "c", "p");
    const copy = `${folder}/copy.db`;
    const env = envOf(place.config);
    const made = await runPushd(["backup", copy], { env });
    publisher.stop();
    await publisher.done;
    assert.deepEqual([made.code, made.stdout], [0, ""], made.stderr);
    assert.match(made.stderr, /copied to .*copy\.db\n$/);
    await client.ask("pub c after", /^PUBLISHED/);

    const again = await runPushd(["backup", copy], { env });
    assert.equal(again.code, 1);
    assert.match(again.stderr, /copy\.db.*exists/);

    await using restored = await startPushd({
      config: { msg_storage: "sqlite", sqlite: { path: copy } },
    });
    using reader = await Client.connect(restored.port);
    const kept = (await readHistory(reader, "c")).map(({ msg }) => msg);
    assert.equal(kept[0], "before");
    assert.ok(!kept.includes("after"));
    // A moment of the load: the first so many, in order.
    assert.deepEqual(kept.slice(1), kept.slice(1).map((_, i) => `p-${i}`));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("what cannot be backed up or moved is said", async () => {
  const memory = { PUSHD_MSG_STORAGE: "memory" };
  const backup = await runPushd(["backup", "x.db"], { env: memory });
  assert.equal(backup.code, 2);
  assert.match(backup.stderr, /^pushd: msg_storage: "memory" .*\n$/);
  const moved = await runPushd(["storage", "export"], { env: memory });
  assert.equal(moved.code, 2);
  assert.match(moved.stderr, /^pushd: msg_storage: "memory" keeps nothing/);
  const none = await runPushd(["backup", "x.db"], {
    env: { PUSHD_SQLITE_PATH: "/nowhere/pushd.db" },
  });
  assert.equal(none.code, 1);
  assert.match(none.stderr, /^pushd: .*\/nowhere\/pushd\.db.*\n$/);

  // One process at a time.
  await using place = await sqlite.open();
  await using _pushd = await startPushd({ config: place.config });
  const busy = await runPushd(["storage", "export"], { env: envOf(place.config) });
  assert.equal(busy.code, 1);
  assert.match(busy.stderr, /^pushd: .*pushd\.db.*\n$/);
});

for (const target of LASTING) {
  const { ignore, reason } = target.ignore ? target : mongodb;
  Deno.test({
    name: `history moves from SQLite to ${target.name} and back as JSON lines${reason}`,
    ignore: target.name === "mongodb" && ignore,
    async fn() {
      await using from = await sqlite.open();
      await using to = await target.open();
      {
        await using pushd = await startPushd({ config: from.config });
        using client = await Client.connect(pushd.port);
        await client.ask("gettoken ann", /^TOKEN ann /);
        for (const line of ['c {"a":"é\u2028"}', "c \ufefftwo", "d three", "c a\0b\rc"]) {
          await client.ask(`pub ${line}`, /^PUBLISHED/);
        }
      }
      const out = await runPushd(["storage", "export"], { env: envOf(from.config) });
      assert.equal(out.code, 0, out.stderr);
      assert.match(out.stderr, /^export: 4 messages from SQLite .*\n$/);
      assert.equal(out.stdout.trimEnd().split("\n").length, 4);

      // Twice: what is there already is kept once.
      for (let i = 0; i < 2; i++) {
        const put = await runPushd(["storage", "import"], {
          env: envOf(to.config),
          stdin: out.stdout,
        });
        assert.equal(put.code, 0, put.stderr);
        assert.match(put.stderr, /import: 4 messages into .*\n$/);
      }
      const back = await runPushd(["storage", "export"], { env: envOf(to.config) });
      assert.equal(back.stdout, out.stdout);

      const bad = await runPushd(["storage", "import"], {
        env: envOf(to.config),
        stdin: "{}\n",
      });
      assert.equal(bad.code, 1);
      assert.match(bad.stderr, /line 1: ts: /);

      await using pushd = await startPushd({ config: to.config });
      using client = await Client.connect(pushd.port);
      const kept = (await readHistory(client, "c")).map(({ msg }) => msg);
      assert.deepEqual(kept, ['{"a":"é\u2028"}', "\ufefftwo", "a\0b\rc"]);
    },
  });
}
