import assert from "node:assert/strict";
import { Turn } from "../core/turn.ts";
import type { RemoteBlock, RoutedChannel } from "../engine/ports/router.ts";
import { decodeUtf8, encodeUtf8 } from "../proto/bytes.ts";
import { Announcer } from "./announcer.ts";
import { FrameType, type PayloadReader } from "./frame.ts";
import { answer, greet } from "./handshake.ts";
import type { NodeIdentity } from "./hello.ts";
import { Link } from "./link.ts";
import { pubHead } from "./outbox.ts";
import { Peer } from "./peer.ts";

/** One node's side: a peer, its links, and what has arrived. */
class Side {
  readonly turn = new Turn();
  readonly announcer: Announcer;
  readonly channels = new Set<RoutedChannel>();
  readonly texts: string[] = [];
  gaps = 0;
  peer: Peer | null = null;
  link: Link | null = null;
  #waits: { isTrue: () => boolean; resolve: () => void }[] = [];

  constructor(readonly self: NodeIdentity, bloomThreshold = 1000) {
    this.announcer = new Announcer({
      turn: this.turn,
      host: { wantedChannels: () => this.channels },
      bloomThreshold: () => bloomThreshold,
      onSlow: () => {},
    });
  }

  want(channel: string): RoutedChannel {
    const wanted: RoutedChannel = {
      app: { id: "default" },
      name: channel,
      nameBytes: encodeUtf8(channel),
      interestVersion: 0,
      route: null,
    };
    this.channels.add(wanted);
    this.announcer.want(wanted);
    return wanted;
  }

  publish(channel: string, text: string, ts: number): void {
    const view = encodeUtf8(`MESSAGE ${channel} ${String(ts).padStart(16, "0")} ${text}\r\n`);
    this.peer?.outbox.append(pubHead("default", channel), {
      lines: { view },
      count: 1,
      firstTs: ts,
      lastTs: ts,
      froms: null,
    });
    this.link?.wake();
  }

  /** Resolves once it is true; looked at whenever something has arrived. */
  until(isTrue: () => boolean): Promise<void> {
    if (isTrue()) return Promise.resolve();
    return new Promise((resolve) => this.#waits.push({ isTrue, resolve }));
  }

  #changed(): void {
    this.#waits = this.#waits.filter(({ isTrue, resolve }) => {
      if (!isTrue()) return true;
      resolve();
      return false;
    });
  }

  up(greeted: Awaited<ReturnType<typeof greet>>): void {
    const peer = this.peer ??= new Peer(greeted.hello, 1 << 20, {
      channelRoom: 1_000_000,
      onInterest: () => this.#changed(),
      onTooMuchInterest: () => {},
      onBatch: (_, block: RemoteBlock) => {
        this.texts.push(decodeUtf8(block.lines).trimEnd().split(" ").slice(3).join(" "));
        this.#changed();
      },
      lastTs: 1,
      onGap: (_, messages) => this.gaps += messages,
    });
    const link = this.link = new Link(greeted, {
      turn: this.turn,
      outbox: peer.outbox,
      timeoutMs: () => 10_000,
      lastTs: () => 1,
    }, {
      onFrame: (link, type, payload) => this.#process(peer, link, type, payload),
      onHeartbeat: () => this.#changed(),
      onDown: (link, reason) => {
        this.announcer.linkDown(link);
        peer.linkDown(reason);
        this.#changed();
      },
    });
    peer.linkUp(link);
    this.announcer.linkUp(link);
    link.start();
  }

  #process(peer: Peer, link: Link, type: number, payload: PayloadReader): void {
    if (type === FrameType.resume) peer.processResume(link, payload);
    else if (type === FrameType.pub) peer.processPub(link, payload);
    else if (type === FrameType.ack) peer.processAck(payload);
    else if (type === FrameType.clock) peer.processClock(payload);
    else if (type === FrameType.interestAck) this.announcer.acknowledged(link, payload.u53());
    else peer.processInterest(link, type, payload);
    this.#changed();
  }
}

function side(id: string, bloomThreshold?: number): Side {
  return new Side({
    cluster: "pushd",
    id,
    incarnation: 1,
    s2sAddr: "127.0.0.1:1",
    clientAddr: "127.0.0.1:2",
    software: "test",
    capabilities: ["bloom"],
  }, bloomThreshold);
}

async function join(a: Side, b: Side): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [dialer, acceptor] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    listener.accept(),
  ]);
  listener.close();
  const [dialed, answered] = await Promise.all([
    greet(dialer, { self: a.self, secret: "s" }, "", () => {}),
    answer(acceptor, { self: b.self, secret: "s" }, () => {}),
  ]);
  a.up(dialed);
  b.up(answered);
}

async function part(a: Side, b: Side): Promise<void> {
  a.link?.close("the test ends it");
  await b.until(() => b.peer?.link === null);
}

Deno.test("link: what is wanted is known to the peer once it is acknowledged", async () => {
  const a = side("a");
  const b = side("b");
  const before = b.want("before");
  await join(a, b);
  await b.announcer.whenWanted(before);
  assert.ok(a.peer?.interest.has({ app: "default", channel: "before" }));
  const later = b.want("later");
  await b.announcer.whenWanted(later);
  assert.equal(b.announcer.whenWanted(later), null);
  assert.ok(a.peer?.interest.has({ app: "default", channel: "later" }));
  b.channels.delete(later);
  b.announcer.unwant(later);
  await a.until(() => !a.peer?.interest.has({ app: "default", channel: "later" }));
  await part(a, b);
});

Deno.test("link: past the threshold a filter stands for the list, and back", async () => {
  const a = side("a");
  const b = side("b", 10);
  await join(a, b);
  const channels = Array.from({ length: 50 }, (_, i) => b.want(`c${i}`));
  await b.announcer.whenWanted(channels[49]);
  const isKnown = (i: number) => a.peer?.interest.has({ app: "default", channel: `c${i}` });
  await a.until(() => a.peer?.interest.size === 0 && channels.every((_, i) => isKnown(i)));
  const late = b.want("late");
  await b.announcer.whenWanted(late);
  assert.ok(a.peer?.interest.has({ app: "default", channel: "late" }));
  for (const channel of channels) {
    b.channels.delete(channel);
    b.announcer.unwant(channel);
  }
  await a.until(() => a.peer?.interest.size === 1 && !isKnown(0));
  await part(a, b);
});

Deno.test("link: messages arrive once and in order, over links that come and go", async () => {
  const a = side("a");
  const b = side("b");
  // Nothing is sent to a peer before it has said what it wants, and where it is.
  await join(a, b);
  await b.announcer.whenWanted(b.want("c"));
  let sent = 0;
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 50; i++) a.publish("c", `m${sent}`, ++sent);
    // In the middle of it, and again while there is no link.
    if (round % 2 === 0) await b.until(() => b.texts.length >= sent - 25);
    await part(a, b);
    for (let i = 0; i < 50; i++) a.publish("c", `m${sent}`, ++sent);
    await join(a, b);
  }
  await b.until(() => b.texts.length >= sent);
  assert.deepEqual(b.texts, Array.from({ length: sent }, (_, i) => `m${i}`));
  assert.equal(b.gaps, 0);
  assert.equal(a.peer?.outbox.lost, 0);
  await part(a, b);
});

Deno.test("link: a batch that cannot be ends it, and says why", async () => {
  const a = side("a");
  const b = side("b");
  await join(a, b);
  await b.announcer.whenWanted(b.want("c"));
  a.publish("c d", "x", 1);
  await b.until(() => b.peer?.link === null);
  assert.equal(b.link?.sentNonsense, true);
  await a.until(() => a.peer?.link === null);
  assert.deepEqual(b.texts, []);
});
