import assert from "node:assert/strict";
import { IoPoll } from "./io_poll.ts";
import { nextTurn, setIoPoll } from "./turn.ts";

Deno.test("io poll: a loop that never idles still sees what came through a socket", async () => {
  const poll = await IoPoll.open();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [client, served] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    listener.accept(),
  ]);
  setIoPoll(poll);
  try {
    let got = false;
    const reading = served.read(new Uint8Array(1)).then(() => got = true);
    await client.write(Uint8Array.of(1));
    let rounds = 0;
    for (; !got && rounds < 1000; rounds++) {
      const untilMs = performance.now() + 5;
      while (performance.now() < untilMs);
      await nextTurn();
    }
    await reading;
    assert.ok(rounds <= 10, `it took ${rounds} rounds`);
  } finally {
    setIoPoll(null);
    poll.close();
    for (const closable of [client, served, listener]) closable.close();
  }
});

Deno.test("io poll: callers share one look, and a broken connection is not an error", async () => {
  const poll = await IoPoll.open();
  assert.ok(poll.isDue(performance.now()));
  assert.equal(poll.run(), poll.run());
  await poll.run();
  assert.ok(!poll.isDue(performance.now()));
  poll.close();
  await poll.run();
  assert.ok(!poll.isDue(performance.now() + 1000), "it is not asked again");
});
