// The engine beside a plain list of every message: any order of publishing, following and reading.

import assert from "node:assert/strict";
import fc from "fast-check";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import {
  arrayOf,
  type Bench,
  bench,
  Client,
  follow,
  type Got,
  START_MS,
} from "../../tests/engine_bench.ts";
import { Turn, type TurnTask } from "../core/turn.ts";
import type { EngineOptions } from "./engine.ts";
import type { Session } from "./session.ts";

/** What one subscription must receive: everything in `due`, unless it ends before. */
interface Period {
  due: Got[];
  /** Index in {@link due} of the next message that it must get. */
  next: number;
}

/** A client, and what it must have received. */
interface Actor {
  session: Session;
  client: Client;
  periods: Map<string, Period>;
  /** How many of its messages have been compared. */
  checked: number;
  isGone: boolean;
}

/** A turn whose sinks, the pieces of a long fan-out, are run when a test says so. */
class HeldTurn extends Turn {
  readonly held: TurnTask[] = [];

  /** The engine's turn ends when a test says so, too. */
  override addSource(): void {}

  override addSink(task: TurnTask): void {
    this.held.push(task);
  }

  runOne(): void {
    this.held.shift()?.endTurn();
  }
}

/** The engine beside a plain list of every message of every channel. */
class World {
  readonly bench: Bench;
  readonly turn = new HeldTurn();
  readonly all = new Map<string, Got[]>();
  actors: Actor[] = [];
  #count = 0;

  constructor(
    readonly history: EngineOptions["history"],
    readonly rooms: number[],
    pieces: EngineOptions["pieces"],
  ) {
    this.bench = bench({ history, pieces, turn: this.turn });
    rooms.forEach((room) => this.enter(room));
  }

  enter(room: number): void {
    const client = new Client(room);
    const session = this.bench.open(client);
    if (this.actors.length % 2 === 1) session.user = `user${this.actors.length}`;
    this.actors.push({ session, client, periods: new Map(), checked: 0, isGone: false });
  }

  list(name: string): Got[] {
    let list = this.all.get(name);
    if (list === undefined) this.all.set(name, list = []);
    return list;
  }

  pub(actor: Actor, name: string, size: number): void {
    const msg = `${this.#count++}`.padEnd(size, "é");
    const ts = this.bench.pub(actor.session, name, msg);
    const { user } = actor.session;
    const message = { channel: name, ts, msg, ...(user === undefined ? {} : { from: user }) };
    this.list(name).push(message);
    for (const { periods } of this.actors) periods.get(name)?.due.push(message);
  }

  sub(actor: Actor, name: string): void {
    const isNew = follow(this.bench.engine, actor.session, name);
    assert.equal(isNew, !actor.periods.has(name));
    if (isNew) actor.periods.set(name, { due: [], next: 0 });
  }

  tsNear(name: string, place: number, offset: number): number {
    const list = this.list(name);
    if (list.length === 0 || place % 7 === 0) return 0;
    const at = place % 3 === 0 ? list.length - 1 : place % list.length;
    return list[at].ts + offset;
  }

  subFrom(actor: Actor, name: string, afterTs: number): void {
    const replay = this.bench.engine.subscribeFrom(actor.session, name, afterTs);
    assert.equal(replay === undefined, actor.periods.has(name));
    if (replay === undefined) return;
    const after = this.list(name).filter(({ ts }) => ts > afterTs);
    this.checkKept(name, afterTs, after, replay.count, replay.partial);
    const due = after.slice(after.length - replay.count);
    actor.periods.set(name, { due, next: 0 });
    replay.start();
  }

  his(actor: Actor, name: string, fromTs: number, limit: number): void {
    const reply = this.bench.engine.history(actor.session, name, fromTs, limit);
    const { partial } = reply;
    const page: (Got & { node: string })[] = JSON.parse(arrayOf(reply));
    const whole = this.list(name).filter(({ ts }) => ts >= fromTs);
    const rest = arrayOf(this.bench.engine.history(actor.session, name, fromTs, 10_000));
    const kept = JSON.parse(rest).length;
    this.checkKept(name, fromTs - 1, whole, kept, partial);
    const expected = whole.slice(whole.length - kept).slice(0, limit);
    assert.deepEqual(page, expected.map((message) => ({ ...message, node: "node-1" })));
  }

  /** Whether `count` of the messages `after` a timestamp is right, and `partial` says the truth. */
  checkKept(_name: string, afterTs: number, after: Got[], count: number, partial: boolean): void {
    assert.ok(count <= after.length);
    // From the beginning is not partial; a `his` from 1 is.
    if (count < after.length && afterTs > 0) assert.ok(partial, "incomplete and not said");
  }

  unsub(actor: Actor, name: string): void {
    const period = actor.periods.get(name);
    const wasLive = period !== undefined && !this.isCatchingUp(actor, name);
    assert.equal(this.bench.engine.unsubscribe(actor.session, name), period !== undefined);
    if (period === undefined) return;
    this.read(actor, false);
    if (wasLive && !actor.client.isCut) assert.equal(period.next, period.due.length);
    actor.periods.delete(name);
  }

  isCatchingUp({ session }: Actor, name: string): boolean {
    return [...session.replays].some(({ subscription }) => subscription.channel.name === name);
  }

  /** The client reads what waits and, if `goesOn`, gets more for it; each message is the next due. */
  read(actor: Actor, goesOn: boolean): void {
    actor.client.read();
    if (goesOn) this.bench.engine.pumpReplays(actor.session);
    const { got, forms } = actor.client;
    for (; actor.checked < got.length; actor.checked++) {
      const message = got[actor.checked];
      const period = actor.periods.get(message.channel);
      assert.ok(period !== undefined, `a message of ${message.channel} without a subscription`);
      const { from, ...rest } = period.due[period.next++];
      const isText = forms[actor.checked] === "text";
      assert.deepEqual(message, isText || from === undefined ? rest : { from, ...rest });
    }
    if (actor.client.isCut && !actor.isGone) this.cut(actor);
  }

  /** Only who lost something that was still due to it may be cut off. */
  cut(actor: Actor): void {
    actor.isGone = true;
    const lost = [...actor.periods].some(([name, { due, next }]) =>
      this.isCatchingUp(actor, name) && !this.isKept(name, due[next])
    );
    assert.ok(lost, "cut off although everything due to it is kept");
    this.bench.engine.closeSession(actor.session);
    actor.periods.clear();
  }

  isKept(name: string, message: Got): boolean {
    const page = this.bench.engine.history(this.actors[0].session, name, message.ts, 1);
    return JSON.parse(arrayOf(page))[0]?.ts === message.ts;
  }

  json(actor: Actor): void {
    this.bench.engine.closeBatches(actor.session);
    actor.session.form = "json";
  }

  leave(actor: Actor, which: number): void {
    // As a connection does it: what was published before is still its own.
    this.bench.engine.closeBatches(actor.session);
    this.bench.engine.closeSession(actor.session);
    this.read(actor, false);
    this.actors = this.actors.filter((other) => other !== actor);
    this.enter(this.rooms[which % this.rooms.length]);
  }

  /** Everybody reads until nothing comes any more; then everybody must have everything. */
  settle(): void {
    this.bench.engine.endTurn();
    while (this.turn.held.length > 0) this.turn.runOne();
    for (const actor of this.actors) {
      for (let before = -1; before !== actor.checked;) {
        before = actor.checked;
        this.read(actor, true);
        this.read(actor, true);
      }
      if (actor.isGone) continue;
      assert.equal(actor.session.replays.size, 0);
      for (const [name, { due, next }] of actor.periods) {
        assert.equal(next, due.length, `messages of ${name} are missing`);
      }
    }
  }

  end(): void {
    const { engine } = this.bench;
    const subscriptions = this.actors.reduce((sum, { periods }) => sum + periods.size, 0);
    assert.equal(engine.counters.subscriptions, subscriptions);
    for (const { session } of this.actors) engine.closeSession(session);
    assert.equal(engine.counters.subscriptions, 0);
    for (const channel of engine.app("default").channels()) assert.ok(channel.isIdle);
  }
}

type Step = (world: World) => void;

const channelName = fc.constantFrom("a", "b", "é");
const offset = fc.constantFrom(-1, 0, 0, 0, 1);

/** Picks one of the clients that have not been cut off. */
function actorAt(world: World, which: number): Actor | undefined {
  const here = world.actors.filter(({ isGone }) => !isGone);
  return here.length === 0 ? undefined : here[which % here.length];
}

function step(run: (world: World, actor: Actor) => void): fc.Arbitrary<Step> {
  return fc.nat().map((which) => (world: World) => {
    const actor = actorAt(world, which);
    if (actor !== undefined) run(world, actor);
  });
}

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.tuple(
      channelName,
      fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 80 }) }, {
        weight: 1,
        arbitrary: fc.integer({ min: 5000, max: 40_000 }),
      }),
      fc.integer({ min: 1, max: 6 }),
    ).chain(([name, size, count]) =>
      step((world, actor) => {
        for (let i = 0; i < count; i++) world.pub(actor, name, size);
      })
    ),
  },
  { weight: 3, arbitrary: channelName.chain((name) => step((world, a) => world.sub(a, name))) },
  {
    weight: 6,
    arbitrary: fc.tuple(channelName, fc.nat(), offset).chain(([name, place, offset]) =>
      step((world, actor) => world.subFrom(actor, name, world.tsNear(name, place, offset)))
    ),
  },
  { weight: 4, arbitrary: channelName.chain((name) => step((world, a) => world.unsub(a, name))) },
  {
    weight: 2,
    arbitrary: fc.tuple(channelName, fc.nat(), offset, fc.integer({ min: 1, max: 20 })).chain(
      ([name, place, offset, limit]) =>
        step((world, actor) => world.his(actor, name, world.tsNear(name, place, offset), limit)),
    ),
  },
  { weight: 6, arbitrary: step((world, actor) => world.read(actor, true)) },
  { weight: 1, arbitrary: step((world, actor) => world.json(actor)) },
  { weight: 1, arbitrary: fc.nat().chain((n) => step((world, actor) => world.leave(actor, n))) },
  { weight: 6, arbitrary: fc.constant<Step>((world) => world.bench.engine.endTurn()) },
  { weight: 6, arbitrary: fc.constant<Step>((world) => world.turn.runOne()) },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.settle()) },
  {
    weight: 1,
    arbitrary: fc.integer({ min: -5_000_000, max: 5000 }).map((ms): Step => (world) => {
      world.bench.time.wall += ms;
    }),
  },
);

/** How much a client that is catching up takes at once: everything, some lines, hardly one. */
const rooms = fc.array(fc.constantFrom(Infinity, 100_000, 500, 100, 1), {
  minLength: 2,
  maxLength: 5,
});

/** Whether the channel's followers get a batch in pieces, as thousands do, or all at once. */
const pieces = fc.option(
  fc.record({ from: fc.integer({ min: 1, max: 3 }), size: fc.integer({ min: 1, max: 2 }) }),
  { nil: undefined },
);

function playAny(history: fc.Arbitrary<EngineOptions["history"]>, numRuns: number, of = World) {
  const steps = fc.array(anyStep, { maxLength: 60 });
  fc.assert(
    fc.property(history, rooms, pieces, steps, (history, rooms, pieces, steps) => {
      using _ledger = new BufferLedger();
      const world = new of(history, rooms, pieces);
      for (const step of steps) step(world);
      world.settle();
      world.end();
    }),
    { numRuns },
  );
}

Deno.test("any order of anything, everything kept: all get all that is theirs, in order, once", () => {
  class Keeping extends World {
    override checkKept(
      _name: string,
      afterTs: number,
      after: Got[],
      count: number,
      partial: boolean,
    ): void {
      assert.equal(count, after.length);
      assert.equal(partial, afterTs > 0 && afterTs < START_MS * 1000);
    }
    override cut(): void {
      assert.fail("cut off although everything is kept");
    }
  }
  const history = { maxMessagesPerChannel: 100_000, maxBytes: 1 << 30, maxIdleChannels: 100 };
  playAny(fc.constant(history), 3000, Keeping);
});

Deno.test("any order of anything, few messages kept: exactly the newest, or cut off", () => {
  class KeepingFew extends World {
    override checkKept(
      name: string,
      afterTs: number,
      after: Got[],
      count: number,
      partial: boolean,
    ): void {
      const { maxMessagesPerChannel } = this.history;
      assert.equal(count, Math.min(after.length, maxMessagesPerChannel));
      const lostTs = this.list(name).at(-1 - maxMessagesPerChannel)?.ts ?? START_MS * 1000;
      assert.equal(partial, afterTs > 0 && lostTs > afterTs);
    }
  }
  const history = fc.integer({ min: 1, max: 12 }).map((maxMessagesPerChannel) => ({
    maxMessagesPerChannel,
    maxBytes: 1 << 30,
    maxIdleChannels: 100,
  }));
  playAny(history, 3000, KeepingFew);
});

Deno.test("any order of anything, hardly any room: what is live is complete, what is gone is said", () => {
  const history = fc.record({
    maxMessagesPerChannel: fc.integer({ min: 0, max: 50 }),
    maxBytes: fc.integer({ min: 0, max: 100_000 }),
    maxIdleChannels: fc.integer({ min: 0, max: 3 }),
  });
  playAny(history, 3000);
});
