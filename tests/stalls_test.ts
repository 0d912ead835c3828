// Nothing keeps the server's event loop from turning for long: the longest stall of each kind of work,
// as the server itself sees it.
//
// PUSHD_STALLS=full takes the numbers of the documentation (some minutes); a table is printed then.

import assert from "node:assert/strict";
import { getAvailablePort } from "@std/net";
import { type Pushd, startPushd } from "./harness.ts";
import { connectMany, LineClient } from "./load_client.ts";
import { LoadChild, type PingReport } from "./load_child.ts";
import { pause, within } from "./load_server.ts";
import { ownMs, type ProbedStall } from "./stall_probe.ts";

const IS_FULL = Deno.env.get("PUSHD_STALLS") === "full";
/** Others may be kept waiting for so long, ms: 20 on a quiet machine; garbage collection beside other tests takes more. */
const MOST_MS = Number(Deno.env.get("PUSHD_STALLS_MS") ?? 150);
const isCompiled = (Deno.env.get("PUSHD_BIN") ?? "") !== "";
const PROBE = new URL("stall_probe.ts", import.meta.url).pathname;

/** More than what gets a message in one go. */
const CROWD = IS_FULL ? 15_000 : 2500;
/** Messages to the crowd. */
const ROUNDS = IS_FULL ? 20 : 5;
/** Messages of nearly 64 KiB that are kept. */
const LARGE = IS_FULL ? 1000 : 100;
const STORM = IS_FULL ? 100_000 : 10_000;

interface Place {
  pushd: Pushd;
  /** The longest stall since it was asked last. */
  stall(): Promise<ProbedStall>;
}

async function startProbed(config: Record<string, unknown>): Promise<Place & AsyncDisposable> {
  const port = getAvailablePort();
  const start = 'deno=$1; run=$2; shift 2; exec "$deno" "$run" --preload="$0" "$@"';
  const pushd = await startPushd({
    config: { max_channels_per_connection: 1_000_000, ...config },
    prefix: ["sh", "-c", start, PROBE],
    env: { PUSHD_TEST_STALLS: `${port}` },
  });
  const stall = async () => {
    using client = await LineClient.connect(port);
    return JSON.parse(new TextDecoder().decode(await readAll(client.conn)));
  };
  await stall();
  return { pushd, stall, [Symbol.asyncDispose]: () => pushd[Symbol.asyncDispose]() };
}

async function readAll(conn: Deno.TcpConn): Promise<Uint8Array> {
  return new Uint8Array(await new Response(conn.readable).arrayBuffer());
}

interface Row {
  what: string;
  stall: ProbedStall;
  pingMs: number | null;
}
const rows: Row[] = [];

/** Does `work` and keeps how long the loop stood still; with the full numbers somebody pings meanwhile. */
async function measured(place: Place, what: string, work: () => Promise<unknown>): Promise<void> {
  await using bystander = IS_FULL ? await LoadChild.start("ping", `${place.pushd.port}`) : null;
  await place.stall();
  await within(120_000, what, work());
  const stall = await place.stall();
  const pingMs = await bystander?.report<PingReport>().then(({ worstMs }) => worstMs);
  rows.push({ what, stall, pingMs: pingMs ?? null });
}

async function subscribeAll(clients: LineClient[], channelOf: (i: number) => string) {
  await Promise.all(clients.map(async (client, i) => {
    assert.match(await client.ask(`sub ${channelOf(i)}`) ?? "", /^SUBSCRIBED /);
  }));
}

async function expectLines(client: LineClient, count: number): Promise<void> {
  let seen = 0;
  await client.eachLine(() => ++seen === count);
  assert.equal(seen, count);
}

async function close(clients: LineClient[], place: Place): Promise<void> {
  for (const client of clients) client.close();
  while ((await place.pushd.stat()).stats.connections > 2) await pause(20);
}

function assertShort(): void {
  const lines = rows.map(({ what, stall, pingMs }) =>
    `${what.padEnd(60)} ${ownMs(stall).toFixed(1).padStart(8)} ms  (${
      stall.ms.toFixed(1)
    } by the clock, ${stall.cpuMs.toFixed(1)} of processor; ping ${pingMs?.toFixed(1)})`
  );
  if (IS_FULL) {
    // deno-lint-ignore no-console
    console.log(lines.join("\n"));
  }
  const worst = rows.filter(({ stall }) => ownMs(stall) > MOST_MS);
  rows.length = 0;
  assert.deepEqual(worst, [], `longer than ${MOST_MS} ms:\n${lines.join("\n")}`);
}

const reason = isCompiled ? " (PUSHD_BIN is set: what was compiled preloads nothing)" : "";

Deno.test({
  ignore: isCompiled,
  name: `stalls: a crowd on one channel${reason}`,
  async fn() {
    await using place = await startProbed({ msg_storage: "memory" });
    let clients: LineClient[] = [];
    await measured(place, `${CROWD} connect`, async () => {
      clients = await connectMany(place.pushd.port, CROWD);
    });
    await measured(
      place,
      `${CROWD} subscribe to one channel`,
      () => subscribeAll(clients, () => "all"),
    );
    using publisher = await LineClient.connect(place.pushd.port);
    const received = clients.map((client) => expectLines(client, ROUNDS));
    await measured(
      place,
      `${ROUNDS} messages to ${CROWD} subscribers, one after the other`,
      async () => {
        for (let i = 0; i < ROUNDS; i++) {
          await publisher.ask(`pub all ${i}`);
          await pause(20);
        }
        await Promise.all(received);
      },
    );
    await measured(place, "the configuration is reloaded", async () => {
      const path = `${place.pushd.folder}/pushd.cf`;
      const config = JSON.parse(await Deno.readTextFile(path));
      await Deno.writeTextFile(path, JSON.stringify({ ...config, max_pending_bytes: "4MiB" }));
      place.pushd.signal("SIGHUP");
      await place.pushd.waitForLog(/configuration reloaded:/);
      await pause(300);
    });
    await measured(place, `${CROWD} leave at once`, () => close(clients, place));
    assertShort();
  },
});

Deno.test({
  ignore: isCompiled,
  name: `stalls: subscriptions${reason}`,
  async fn() {
    await using place = await startProbed({ msg_storage: "memory" });
    {
      using one = await LineClient.connect(place.pushd.port);
      await measured(place, `${STORM} sub by one connection`, async () => {
        let lines = "";
        for (let i = 0; i < STORM; i++) lines += `sub storm/${i}\n`;
        await Promise.all([one.send(lines), expectLines(one, STORM)]);
      });
      await measured(place, `the connection with ${STORM} channels leaves`, async () => {
        one.close();
        while ((await place.pushd.stat()).stats.subscriptions > 0) await pause(20);
      });
    }
    const clients = await connectMany(place.pushd.port, 100);
    await measured(place, `${STORM} sub by a hundred connections`, async () => {
      const each = STORM / 100;
      await Promise.all(clients.map(async (client, c) => {
        let lines = "";
        for (let i = 0; i < each; i++) lines += `sub storm/${c}/${i}\n`;
        await Promise.all([client.send(lines), expectLines(client, each)]);
      }));
    });
    await measured(place, "they leave", () => close(clients, place));
    assertShort();
  },
});

for (const storage of ["memory", "sqlite"]) {
  Deno.test({
    ignore: isCompiled,
    name: `stalls: history in ${storage}${reason}`,
    async fn() {
      await using place = await startProbed({
        msg_storage: storage,
        msg_storage_flush_policy: storage === "sqlite" ? 1 : 0,
        ...(storage === "sqlite" ? { max_cache_msgs_every_channel: 1 } : {}),
      });
      using client = await LineClient.connect(place.pushd.port);
      const message = "x".repeat(64 * 1024 - 100);
      await measured(place, `${LARGE} messages of 64 KiB are published (${storage})`, async () => {
        const sending = (async () => {
          for (let i = 0; i < LARGE; i++) await client.send(`pub big ${message}\n`);
        })();
        await Promise.all([sending, expectLines(client, LARGE)]);
      });
      const count = IS_FULL ? 20_000 : 10_000;
      await measured(place, `${count} short ones are published (${storage})`, async () => {
        let lines = "";
        for (let i = 0; i < count; i++) {
          lines += `pub small message-number-${i}-${"x".repeat(64)}\n`;
        }
        await Promise.all([client.send(lines), expectLines(client, count)]);
      });
      await measured(place, `his of large messages (${storage})`, async () => {
        for (let i = 0; i < 5; i++) {
          const line = await client.ask("his big 0 1000");
          assert.ok(line !== null && line.length > 1_000_000, line?.slice(0, 100));
        }
      });
      await measured(place, `his of 10,000 short messages (${storage})`, async () => {
        for (let i = 0; i < 5; i++) {
          assert.match(await client.ask("his small 0 10000") ?? "", /^HISTORY /);
        }
      });
      await measured(place, `a replay of large and short messages (${storage})`, async () => {
        using reader = await LineClient.connect(place.pushd.port);
        await Promise.all([reader.send("sub small 1\nsub big 1\n"), expectLines(reader, 1 + 1)]);
        await reader.send("ping\n");
        await reader.eachLine((bytes, start) => bytes[start + 1] === "O".charCodeAt(0));
      });
      assertShort();
    },
  });
}

Deno.test({
  ignore: isCompiled,
  name: `stalls: channels are dropped from the cache${reason}`,
  async fn() {
    await using place = await startProbed({
      msg_storage: "memory",
      pubsub_channel_max_items: STORM,
    });
    using client = await LineClient.connect(place.pushd.port);
    const publish = async (from: number, to: number) => {
      let lines = "";
      for (let i = from; i < to; i++) lines += `pub cached/${i} x\n`;
      await Promise.all([client.send(lines), expectLines(client, to - from)]);
    };
    await measured(place, `${STORM} channels get a message each`, () => publish(0, STORM));
    await measured(
      place,
      `${STORM} more, for which the first ones go`,
      () => publish(STORM, 2 * STORM),
    );
    await measured(place, `the bound is lowered from ${STORM} to 10`, async () => {
      const path = `${place.pushd.folder}/pushd.cf`;
      const config = JSON.parse(await Deno.readTextFile(path));
      await Deno.writeTextFile(path, JSON.stringify({ ...config, pubsub_channel_max_items: 10 }));
      place.pushd.signal("SIGHUP");
      await place.pushd.waitForLog(/configuration reloaded:/);
      await pause(500);
    });
    assertShort();
  },
});
