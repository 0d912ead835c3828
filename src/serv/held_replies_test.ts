// Replies that wait for their commits: in order, as they stand or as errors, and all given back.

import assert from "node:assert/strict";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { goRound } from "../../tests/go_round.ts";
import { Turn } from "../core/turn.ts";
import type { CommitGroup, CommitWaiter } from "../engine/ports/history_queue.ts";
import { decodeUtf8, encodeUtf8 } from "../proto/bytes.ts";
import { HeldReplies, type HeldRepliesOwner } from "./held_replies.ts";
import { Writer } from "./writer.ts";

const FIRST_TS = 1_700_000_000_000_000;

class Group implements CommitGroup {
  state: CommitGroup["state"] = "waiting";
  readonly waiters: CommitWaiter[] = [];

  settle(state: "stored" | "failed"): void {
    this.state = state;
    for (const waiter of this.waiters) waiter.onSettled(this);
  }
}

/** A connection whose client takes everything. */
class Owner implements HeldRepliesOwner {
  readonly writer: Writer;
  readonly held: HeldReplies = new HeldReplies(this);
  /** Whether replies were still held, each time that some were released. */
  readonly released: boolean[] = [];
  text = "";
  notStored = 0;
  isOverflown = false;

  constructor(maxPendingBytes = 8 * 1024 * 1024) {
    const sink = {
      write: (bytes: Uint8Array) => {
        this.text += decodeUtf8(bytes);
        return Promise.resolve(bytes.length);
      },
    };
    this.writer = new Writer(
      sink,
      new Turn(),
      {
        onWriteStarted: () => {},
        onWrote: () => {},
        onDrained: () => {},
        onOverflow: () => void (this.isOverflown = true),
        onFinished: () => {},
        onWriteFailed: (error) => {
          throw error;
        },
      },
      maxPendingBytes,
    );
  }

  onReleased(): void {
    this.released.push(!this.held.isEmpty);
  }

  onNotStored(messages: number): void {
    this.notStored += messages;
  }

  publish(number: number, group: Group): void {
    this.held.addPublished(encodeUtf8(`${FIRST_TS + number}`), group);
  }

  async lines(): Promise<string[]> {
    while (this.writer.pending > 0) await goRound();
    return this.text.split("\r\n").slice(0, -1).map((line) =>
      line.replace(/ delivered but not stored: .+$/, " …")
    );
  }
}

Deno.test("a stored group releases its replies and those behind them, and not those of the next", async () => {
  using ledger = new BufferLedger();
  const owner = new Owner();
  const { held } = owner;
  const [first, second] = [new Group(), new Group()];
  owner.publish(1, first);
  held.addLine("ERROR bad-message é");
  owner.publish(2, first);
  owner.publish(3, second);
  held.addLine("PONG");
  assert.deepEqual([first.waiters.length, second.waiters.length], [1, 1]);
  assert.deepEqual(await owner.lines(), []);
  first.settle("stored");
  const expected = [
    `PUBLISHED ${FIRST_TS + 1}`,
    "ERROR bad-message é",
    `PUBLISHED ${FIRST_TS + 2}`,
  ];
  assert.deepEqual(await owner.lines(), expected);
  held.addLine("BYE");
  second.settle("stored");
  assert.deepEqual(await owner.lines(), [...expected, `PUBLISHED ${FIRST_TS + 3}`, "PONG", "BYE"]);
  assert.deepEqual(owner.released, [true, false]);
  assert.ok(held.isEmpty);
  // With nothing held a line goes out at once.
  held.addLine("PONG");
  assert.equal((await owner.lines()).at(-1), "PONG");
  assert.equal(owner.notStored, 0);
  assert.equal(ledger.owned, 0);
});

Deno.test("a failed group turns exactly its own PUBLISHED into errors", async () => {
  using ledger = new BufferLedger();
  const owner = new Owner();
  const { held } = owner;
  const groups = [new Group(), new Group(), new Group()];
  const others = [
    `HISTORY c [{"msg":"PUBLISHED ${FIRST_TS}"}]`,
    `PUBLISHED ${FIRST_TS} and more`,
    "\ufeff PUBLISHED é",
    "x".repeat(5000),
  ];
  groups.forEach((group, i) => {
    for (const [j, line] of others.entries()) {
      owner.publish(10 * i + j, group);
      held.addLine(line);
    }
  });
  groups[0].settle("stored");
  groups[1].settle("failed");
  groups[2].settle("stored");
  const expected = groups.flatMap((_, i) =>
    others.flatMap((line, j) => {
      const ts = FIRST_TS + 10 * i + j;
      return [i === 1 ? `ERROR storage-unavailable ${ts} …` : `PUBLISHED ${ts}`, line];
    })
  );
  assert.deepEqual(await owner.lines(), expected);
  assert.equal(owner.notStored, 4);
  assert.equal(ledger.owned, 0);
});

Deno.test("as many failures as may wait for the store do not make a slow consumer of who reads", async () => {
  const owner = new Owner();
  const group = new Group();
  for (let i = 0; i < 100_000; i++) owner.publish(i, group);
  group.settle("failed");
  assert.ok(!owner.isOverflown);
  const lines = await owner.lines();
  assert.equal(lines.length, 100_000);
  assert.equal(lines[99_999], `ERROR storage-unavailable ${FIRST_TS + 99_999} …`);
  assert.equal(owner.notStored, 100_000);
});

Deno.test("what was dropped with its connection is not written, whatever becomes of its groups", async () => {
  using ledger = new BufferLedger();
  const owner = new Owner();
  const groups = [new Group(), new Group()];
  owner.publish(1, groups[0]);
  owner.publish(2, groups[1]);
  owner.held.addLine("PONG");
  assert.equal(owner.held.otherBytes, 6);
  owner.held.clear();
  assert.ok(owner.held.isEmpty);
  assert.equal(owner.held.otherBytes, 0);
  groups[0].settle("stored");
  groups[1].settle("failed");
  assert.deepEqual(await owner.lines(), []);
  assert.deepEqual([owner.released, owner.notStored], [[], 0]);
  assert.equal(ledger.owned, 0);
});

Deno.test("bytes are counted of what nothing else bounds", () => {
  const owner = new Owner();
  const groups = [new Group(), new Group()];
  owner.publish(1, groups[0]);
  owner.held.addLine("é");
  owner.publish(2, groups[1]);
  owner.held.addLine("ab");
  assert.equal(owner.held.otherBytes, 8);
  groups[0].settle("stored");
  assert.equal(owner.held.otherBytes, 4);
  groups[1].settle("failed");
  assert.equal(owner.held.otherBytes, 0);
});
