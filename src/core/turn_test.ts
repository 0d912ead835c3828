// The end of a turn: once, sources first, and everything that is added meanwhile.

import assert from "node:assert/strict";
import { goRound, pastTurnTimer } from "../../tests/go_round.ts";
import { nextTurn, Turn, type TurnTask } from "./turn.ts";

function task(run: () => void): TurnTask {
  return { endTurn: run };
}

Deno.test("tasks run behind the turn's own work, sources before sinks", async () => {
  const turn = new Turn();
  const ran: string[] = [];
  turn.addSink(task(() => ran.push("sink 1")));
  turn.addSource(task(() => ran.push("source 1")));
  turn.addSink(task(() => ran.push("sink 2")));
  turn.addSource(task(() => ran.push("source 2")));
  assert.deepEqual(ran, []);
  assert.equal(turn.count, 0);
  await goRound();
  assert.deepEqual(ran, ["source 1", "source 2", "sink 1", "sink 2"]);
  assert.equal(turn.count, 1);
});

Deno.test("a microtask's work still belongs to the turn", async () => {
  const turn = new Turn();
  const ran: string[] = [];
  turn.addSource(task(() => ran.push("end of turn")));
  await Promise.resolve();
  ran.push("microtask");
  await goRound();
  assert.deepEqual(ran.toSorted(), ["end of turn", "microtask"]);
  assert.equal(turn.count, 1);
});

Deno.test("what tasks add runs in the same turn; a new source goes before the sinks that are left", async () => {
  const turn = new Turn();
  const ran: string[] = [];
  const say = (text: string) => task(() => ran.push(text));
  turn.addSource(task(() => {
    ran.push("source");
    turn.addSink(say("sink of a source"));
    turn.addSource(say("source of a source"));
  }));
  turn.addSink(task(() => {
    ran.push("sink");
    turn.addSink(say("sink of a sink"));
    turn.addSource(say("source of a sink"));
  }));
  await goRound();
  assert.deepEqual(ran, [
    "source",
    "source of a source",
    "sink",
    "sink of a source",
    "source of a sink",
    "sink of a sink",
  ]);
  assert.equal(turn.count, 1);
});

Deno.test("turns follow one another; without a task none is counted", async () => {
  const turn = new Turn();
  let runs = 0;
  for (let i = 1; i <= 3; i++) {
    turn.addSink(task(() => runs++));
    await goRound();
    assert.equal(runs, i);
    assert.equal(turn.count, i);
  }
  await goRound();
  assert.equal(turn.count, 3);
});

Deno.test("waiting for the next turn lets others run: what is ready, and the end of this turn", async () => {
  const turn = new Turn();
  const ran: string[] = [];
  for (let i = 0; i < 3; i++) {
    turn.addSink(task(() => ran.push("end of turn")));
    queueMicrotask(() => ran.push("microtask"));
    await nextTurn();
    assert.deepEqual(ran.splice(0).toSorted(), ["end of turn", "microtask"]);
  }
  await pastTurnTimer();
});

Deno.test("sinks that can wait are cut into slices, and those of later turns come before the rest", async () => {
  const turn = new Turn();
  const ran: string[] = [];
  const busy = (ms: number) => {
    const endMs = performance.now() + ms;
    while (performance.now() < endMs);
  };
  let left = 400;
  const slow = {
    canWait: true,
    endTurn: () => {
      busy(0.25);
      if (--left === 0) ran.push("the last of the crowd");
    },
  };
  for (let i = 0; i < left; i++) turn.addSink(slow);
  turn.addSink(task(() => ran.push("one that cannot wait")));
  await goRound();
  assert.deepEqual(ran, ["one that cannot wait"]);
  assert.ok(turn.isBehind && left > 0, `${left} are left`);
  turn.addSink(task(() => ran.push("a later turn's")));
  while (turn.isBehind) await goRound();
  assert.deepEqual(ran, ["one that cannot wait", "a later turn's", "the last of the crowd"]);
  assert.equal(left, 0);
});

Deno.test("of a crowd of sinks some hundred are run in a turn, and a later turn's own go before the rest", async () => {
  const turn = new Turn();
  const ran: { turn: number; text: string }[] = [];
  const say = (text: string) => ({
    canWait: true,
    endTurn: () => ran.push({ turn: turn.count, text }),
  });
  for (let i = 0; i < 3000; i++) turn.addSink(say(`${i}`));
  await goRound();
  const own = Array.from({ length: 300 }, (_, i) => `own ${i}`);
  const [from, askedIn] = [ran.length, turn.count];
  for (const text of own) turn.addSink(say(text));
  await goRound();
  assert.equal(ran[from].text, "own 0");
  assert.ok(
    ran.some(({ turn, text }) => turn === askedIn && !own.includes(text)),
    "the rest goes on, too",
  );
  while (turn.isBehind) await goRound();
  const sizes = Object.values(Object.groupBy(ran, ({ turn }) => turn)).map((of) => of?.length ?? 0);
  assert.ok(sizes.length > 3300 / 128 && Math.max(...sizes) <= 128, `in turns of ${sizes}`);
  const texts = ran.map(({ text }) => text);
  assert.deepEqual(texts.filter((text) => own.includes(text)), own);
  assert.deepEqual(
    texts.filter((text) => !own.includes(text)),
    Array.from({ length: 3000 }, (_, i) => `${i}`),
  );
});
