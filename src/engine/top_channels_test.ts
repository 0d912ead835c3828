import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { encodeUtf8 } from "../proto/bytes.ts";
import { App } from "./channel_table.ts";
import { topChannels } from "./top_channels.ts";

function appWith(count: number): App {
  const app = new App("a");
  for (let i = 0; i < count; i++) {
    const bytes = encodeUtf8(`${i % 2 === 0 ? "even" : "ödd"}:${i}`);
    const channel = app.open(bytes, 0, bytes.length);
    channel.catchingUp = (i * 7919) % count;
    channel.published = i;
  }
  return app;
}

Deno.test("top channels: those with the most subscribers first, of any number", async () => {
  const app = appWith(10_000);
  const top = await topChannels(app.channelChunks(), 5, "");
  assert.deepEqual(top.map(({ subscribers }) => subscribers), [9999, 9998, 9997, 9996, 9995]);
  assert.ok(top.every(({ app }) => app === "a"));
  assert.equal((await topChannels(app.channelChunks(), 20_000, "")).length, 10_000);
});

Deno.test("top channels: by the begin of their name, and by messages where subscribers are equal", async () => {
  const app = appWith(1000);
  const top = await topChannels(app.channelChunks(), 3, "ödd:99");
  assert.deepEqual(
    top.map(({ channel }) => channel).sort(),
    ["ödd:99", "ödd:991", "ödd:993", "ödd:995", "ödd:997", "ödd:999"].filter((name) =>
      top.some(({ channel }) => channel === name)
    ),
  );
  for (const channel of app.channels()) channel.catchingUp = 0;
  const busy = await topChannels(app.channelChunks(), 2, "even");
  assert.deepEqual(busy.map(({ channel }) => channel), ["even:998", "even:996"]);
  assert.deepEqual(await topChannels(app.channelChunks(), 2, "none"), []);
});

Deno.test("top channels: others have their turn between, also with very many", async () => {
  const app = appWith(300_000);
  let isDone = false;
  let rounds = 0;
  const top = topChannels(app.channelChunks(), 100, "").then(() => isDone = true);
  while (!isDone) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    rounds++;
  }
  await top;
  // In one go there would be one.
  assert.ok(rounds > 2, `${rounds} rounds of the event loop`);
});
