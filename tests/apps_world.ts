// What several applications publish under the same names, and the proof that each sees its own and no more.

import assert from "node:assert/strict";
import { APPS, JOINERS, type Life, type TestApp } from "./apps_life.ts";
import type { Client } from "./harness.ts";
import type { KeptMessage } from "./history_reader.ts";

/** Every application has all of them: "a" with "b:c" and "a:b" with "c" are the same under a ":". */
export const CHANNELS = ["c", "b", ...JOINERS.map((j) => `b${j}c`), "__proto__", "constructor"];
const USERS = ["ann", "b:ann", "__proto__", "constructor"];

/** A message that was acknowledged. */
interface Sent {
  app: TestApp;
  message: KeptMessage;
}

/** A connection that follows every channel of its application, and prints JSON. */
export interface Follower {
  app: TestApp;
  client: Client;
}

/** Makes a connection of the application. */
type Connect = (app: TestApp) => Promise<Client>;

/** What the applications have published, and what they must see of it. */
export class World {
  #sent: Sent[] = [];

  /** It did not outlive the server. */
  forget(): void {
    this.#sent = [];
  }

  /** Every user of every application publishes to each of its channels, all at once. */
  async publishAsUsers(life: Life, round: string): Promise<World> {
    return await this.#publish(
      round,
      await Promise.all(APPS.map(async (app) => {
        const clients = await life.users(app, USERS);
        return clients.map((client, i) => ({ app, client, from: USERS[i] }));
      })),
    );
  }

  /** The same by the applications' servers, which have no name. */
  async publishAsServers(life: Life, round: string): Promise<World> {
    return await this.#publish(
      round,
      await Promise.all(APPS.map(async (app) => [{ app, client: await life.server(app) }])),
    );
  }

  /** Returns what came of this round alone. */
  async #publish(
    round: string,
    publishers: { app: TestApp; client: Client; from?: string }[][],
  ): Promise<World> {
    const part = new World();
    await Promise.all(
      publishers.flat().map(async ({ app, client, from }) => {
        const messages = CHANNELS.map((channel) => ({
          channel,
          msg: `${round}: ${from ?? "the server"} of ${app.id} to ${channel}`,
        }));
        await client.send(messages.map(({ channel, msg }) => `pub ${channel} ${msg}\n`).join(""));
        for (const message of messages) {
          const [, ts] = await client.expect(/^PUBLISHED (\d{16})$/);
          const named = from === undefined ? {} : { from };
          part.#sent.push({ app, message: { ...message, ts: Number(ts), ...named, node: "n1" } });
        }
      }),
    );
    this.#sent.push(...part.#sent);
    return part;
  }

  /** What was published to a channel of the application, oldest first. */
  #of(app: TestApp, channel: string): KeptMessage[] {
    return this.#sent
      .filter((sent) => sent.app === app && sent.message.channel === channel)
      .map(({ message }) => message)
      .sort((a, b) => a.ts - b.ts);
  }

  /** What the connection reads in one channel is what this application has published, exactly. */
  async checkHistory(
    client: { reply(request: string): Promise<string> },
    app: TestApp,
    channel = "c",
    fromTs = 0,
  ): Promise<void> {
    const line = await client.reply(`his ${channel} ${fromTs}`);
    const head = `HISTORY ${channel} `;
    assert.ok(line.startsWith(`${head}[`), line);
    assert.deepEqual(JSON.parse(line.slice(head.length)), this.#of(app, channel));
  }

  /**
   * Each application's history is its own: from the beginning, and from its first message on, which the
   * cache answers by itself where it has all of the channel. Everything is asked for at once, so that
   * reads which are under way at the same time could be taken for one another.
   */
  async checkHistories(life: Life): Promise<void> {
    await Promise.all(APPS.flatMap((app) =>
      CHANNELS.map(async (channel) => {
        using server = await life.newServer(app);
        await this.checkHistory(server, app, channel);
        const [first] = this.#of(app, channel);
        if (first !== undefined) await this.checkHistory(server, app, channel, first.ts);
      })
    ));
    // And the other way round, one by one: what has been read for one could be given to another.
    for (const app of APPS.toReversed()) {
      const server = await life.server(app);
      for (const channel of CHANNELS) await this.checkHistory(server, app, channel);
    }
  }

  /** Followers of what comes from now on, one for each application. */
  async follow(connect: Connect): Promise<Follower[]> {
    return await Promise.all(APPS.map(async (app) => {
      const client = await newFollower(connect, app);
      await client.send(CHANNELS.map((channel) => `sub ${channel}\n`).join(""));
      for (const channel of CHANNELS) await client.expect(`SUBSCRIBED ${channel}`);
      return { app, client };
    }));
  }

  /** Followers from the beginning on: what they are sent first is exactly their application's. */
  async followFromStart(connect: Connect): Promise<Follower[]> {
    return await Promise.all(APPS.map(async (app) => {
      const client = await newFollower(connect, app);
      const due = CHANNELS.map((channel) => this.#of(app, channel));
      await client.send(CHANNELS.map((channel) => `sub ${channel} 0\n`).join(""));
      // Replies may stand between the messages of the replays before them.
      const lines = await client.lines(CHANNELS.length + due.flat().length);
      const [events, replies] = [true, false].map((isEvent) =>
        lines.filter((line) => line.startsWith("EVENT ") === isEvent)
      );
      assert.deepEqual(replies, CHANNELS.map((name, i) => `SUBSCRIBED ${name} ${due[i].length}`));
      assert.deepEqual(byChannel(events), due);
      // Nothing comes behind it.
      await client.ask("ping", "PONG");
      return { app, client };
    }));
  }

  /** Each of the followers has got all of this, in order, and nothing else. */
  async checkDelivered(followers: readonly Follower[]): Promise<void> {
    await Promise.all(followers.map(async ({ app, client }) => {
      const due = CHANNELS.map((channel) => this.#of(app, channel));
      assert.deepEqual(byChannel(await client.lines(due.flat().length)), due);
    }));
    await checkQuiet(followers);
  }
}

/** The followers have got nothing that was not read yet. */
export async function checkQuiet(followers: readonly Follower[]): Promise<void> {
  await Promise.all(followers.map(({ client }) => client.ask("ping", "PONG")));
}

async function newFollower(connect: Connect, app: TestApp): Promise<Client> {
  const client = await connect(app);
  await client.ask("hello 1 json", /^HELLO 1 /);
  return client;
}

/** The messages of `EVENT` lines, a list for each channel. */
function byChannel(lines: readonly string[]): KeptMessage[][] {
  const messages = lines.map((line) => {
    const [, json] = /^EVENT (.*)$/.exec(line) ?? assert.fail(line);
    const { op, ...message } = JSON.parse(json);
    assert.equal(op, "msg");
    assert.ok(CHANNELS.includes(message.channel), line);
    return message;
  });
  return CHANNELS.map((name) => messages.filter(({ channel }) => channel === name));
}
