// The live page: in a real browser under load, and its feed with clients that misbehave.

import assert from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import { createStatsApp } from "../src/stats/app.ts";
import { recentLog } from "../src/core/recent_log.ts";
import * as format from "../src/stats/dashboard/format.js";
import { LiveFeed } from "../src/stats/live_feed.ts";
import type { LiveSource } from "../src/stats/live_source.ts";
import type { ReadyAnswer } from "../src/stats/shapes.ts";
import { startStatsServer } from "../src/stats/server.ts";
import { checkAccess, openPage, startBrowser } from "./browser.ts";
import { Client, PATIENCE_MS, type Pushd, startPushd, within } from "./harness.ts";
import { liveEvents } from "./live_events.ts";
import { liveSource, shownNode } from "./live_source.ts";
import { requireTool } from "./require.ts";
import { statsDeps } from "./stats_deps.ts";

const chromium = requireTool("chromium");
const MARKUP = "<img/src=x/onerror=alert(1)>";

/** The number in a card. */
function valueOf(page: Page, title: string) {
  return page.locator("article", { has: page.getByRole("heading", { name: title, exact: true }) })
    .locator(".values b").first();
}

/** The picture of a plot. */
async function pictureOf(page: Page, title: string): Promise<string> {
  const card = page.locator("article", { hasText: title });
  return (await card.locator("canvas").screenshot()).toString("base64");
}

async function metric(pushd: Pushd, name: string): Promise<number> {
  const text = await (await pushd.get("/metrics")).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
}

/** Publishes at an even pace until it is told to stop. */
async function publishUntil(pushd: Pushd, signal: AbortSignal): Promise<void> {
  using client = await Client.connect(pushd.port);
  while (!signal.aborted) {
    for (let i = 0; i < 10; i++) await client.ask("pub news hello", /^PUBLISHED/);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function checkFigures(browser: Browser, pushd: Pushd): Promise<void> {
  using subscriber = await Client.connect(pushd.port);
  await subscriber.ask("sub news", "SUBSCRIBED news");
  await subscriber.ask(`sub ${MARKUP}`, `SUBSCRIBED ${MARKUP}`);
  const url = `http://127.0.0.1:${pushd.statsPort}/`;
  const before = await metric(pushd, "pushd_messages_published_total");
  const { page, faults } = await openPage(browser, url);
  const answer = await pushd.get("/s/live");
  const events = liveEvents(answer.body);
  const { value: hello } = await events.next();
  const column = 1 + hello?.data.series.indexOf("published");
  const rows: number[][] = [hello?.data.rows.at(-1)];

  // The page and this test are told the same, one a moment before the other.
  const stop = new AbortController();
  const publishing = publishUntil(pushd, stop.signal);
  const shown = new Set<string>();
  let picture = "";
  try {
    for await (const { event, data } of events) {
      if (event !== "moment") continue;
      rows.push(data.row);
      const rate = data.row[column];
      if (rows.length === 2) picture = await pictureOf(page, "Messages in");
      if (rows.length === 5) stop.abort();
      shown.add(await valueOf(page, "Messages in").innerText());
      if (stop.signal.aborted && rate === 0) break;
    }
  } finally {
    stop.abort();
    await publishing;
  }
  const told = rows.map((row) => format.rate(row[column]));
  assert.deepEqual([...shown].filter((text) => !told.includes(text)), [], `of ${told}`);
  assert.ok(shown.size > 2, `the page has shown ${[...shown]}`);
  assert.notEqual(await pictureOf(page, "Messages in"), picture);
  const published = await metric(pushd, "pushd_messages_published_total") - before;
  let sum = 0;
  for (let i = 1; i < rows.length; i++) {
    sum += rows[i][column] * (rows[i][0] - rows[i - 1][0]) / 1000;
  }
  assert.ok(Math.abs(sum - published) < 0.03 * published, `${sum} in plots, not ${published}`);
  await valueOf(page, "Connections").and(page.locator("b", { hasText: /^1$/ })).waitFor();

  // A name is text, whatever is in it.
  await page.getByRole("rowheader", { name: MARKUP, exact: true }).waitFor();
  assert.equal(await page.locator("main img").count(), 0);

  await checkAccess(page, "light");
  await page.emulateMedia({ colorScheme: "dark" });
  await checkAccess(page, "dark");
  await page.setViewportSize({ width: 390, height: 844 });
  await checkAccess(page, "dark, on a phone");
  assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 390);

  // By keyboard alone.
  for (let i = 0; await page.locator("summary:focus").count() === 0; i++) {
    assert.ok(i < 20, "the configuration cannot be reached by Tab");
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Enter");
  const secret = page.locator("#conf-list div", { hasText: "s2s_secret" });
  await secret.waitFor();
  assert.match(await secret.innerText(), /\*\*\*/);
  assert.deepEqual(faults, []);
  await page.close();
}

async function checkRestart(browser: Browser, pushd: Pushd): Promise<void> {
  const config = {
    tcp_listen_addr: `127.0.0.1:${pushd.port}`,
    stats_listen_addr: `127.0.0.1:${pushd.statsPort}`,
    msg_storage: "memory",
  };
  const { page } = await openPage(browser, `http://127.0.0.1:${pushd.statsPort}/`);
  await page.getByRole("heading", { name: "Ready", exact: true }).waitFor();
  await page.evaluate(() => Object.assign(globalThis, { isSame: true }));
  await pushd.stop();
  await page.getByRole("heading", { name: "Connection lost" }).waitFor();
  assert.match(await page.title(), /connection lost/);
  await page.getByRole("status").getByText("Connection lost").waitFor({ state: "attached" });
  {
    await using _again = await startPushd({ config });
    await page.getByRole("heading", { name: "Ready", exact: true }).waitFor();
    assert.doesNotMatch(await page.title(), /lost/);
    await valueOf(page, "Connections").and(page.locator("b", { hasText: /^0$/ })).waitFor();
    // It was not loaded anew.
    assert.equal(await page.evaluate(() => Reflect.get(globalThis, "isSame")), true);
  }
  await page.close();
}

/** A feed and the door that it is served at. */
async function withFeed(
  source: LiveSource,
  feedLimits: ConstructorParameters<typeof LiveFeed>[1],
  fn: (url: string, feed: LiveFeed) => Promise<void>,
): Promise<void> {
  const feed = new LiveFeed(source, feedLimits);
  const app = createStatsApp(statsDeps({ token: source.token }), feed);
  // What a stream that is not ended by the feed would hold the door open for: long enough to be seen.
  const closeGraceMs = 2 * PATIENCE_MS;
  const limits = { closeGraceMs };
  const server = startStatsServer({ hostname: "127.0.0.1", port: 0, app, limits });
  feed.start();
  try {
    await fn(`http://127.0.0.1:${server.addr.port}`, feed);
  } finally {
    await feed.stop();
    await within(() => "the door to close", server.close());
  }
}

async function checkTrouble(browser: Browser): Promise<void> {
  let readiness: ReadyAnswer = { ready: true, failing: ["etc"] };
  let token = "secret";
  const source = liveSource({
    readiness: () => readiness,
    token: () => token,
    nodes: () => ({
      node: "a",
      cluster: "house",
      nodes: [shownNode({ state: "down", lost: 3 })],
    }),
  });
  await withFeed(source, {}, async (url) => {
    const httpCredentials = { username: "", password: token };
    const { page, faults } = await openPage(browser, url, { httpCredentials });
    await page.getByRole("heading", { name: "Ready, but" }).waitFor();
    await page.getByText("ZooKeeper cannot be reached", { exact: true }).waitFor();
    await page.getByRole("row", { name: /^b down .* 3 / }).waitFor();
    readiness = { ready: false, failing: ["storage"] };
    await page.getByRole("heading", { name: "Not ready" }).waitFor();
    assert.match(await page.title(), /not ready/);
    recentLog.add({
      category: ["pushd", "serv"],
      level: "error",
      message: [MARKUP],
      rawMessage: MARKUP,
      timestamp: Date.now(),
      properties: {},
    });
    await page.getByRole("listitem").filter({ hasText: `error serv: ${MARKUP}` }).waitFor();
    await checkAccess(page, "in trouble");
    assert.deepEqual(faults, []);
    token = "another";
    await page.getByText("the token has changed: reload this page").waitFor();
    await page.close();
  });
}

Deno.test({
  name: `the page in a browser, under load${chromium.reason}`,
  ignore: chromium.ignore,
  // Chromium's pipes are closed when it has been told to end.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    const browser = await startBrowser();
    try {
      await using pushd = await startPushd({
        config: { msg_storage: "memory", s2s_secret: "verysecret" },
      });
      await t.step("figures, names, access, keyboard, and trouble", async () => {
        await Promise.all([checkFigures(browser, pushd), checkTrouble(browser)]);
      });
      await t.step("a restart", () => checkRestart(browser, pushd));
    } finally {
      await browser.close();
    }
  },
});

/** Asks for the feed on a connection of its own, and leaves what comes unread. */
async function askForFeed(url: string): Promise<Deno.TcpConn> {
  const { hostname, port } = new URL(url);
  const conn = await Deno.connect({ hostname, port: Number(port) });
  await conn.write(new TextEncoder().encode("GET /s/live HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  return conn;
}

Deno.test("a viewer that does not read is cut off, and one that reads is not", async () => {
  let round = 0;
  const big = "x".repeat(100_000);
  const source = liveSource({ conf: () => ({ round: round++, big }) });
  const limits = { lookIntervalMs: 10, lookPauseFactor: 0, maxWaitingBytes: 4_000_000 };
  await withFeed(source, limits, async (url, feed) => {
    const reading = await fetch(`${url}/s/live`);
    using _stalled = await askForFeed(url);
    const cut = async () => {
      let most = 0;
      for await (const _event of liveEvents(reading.body)) {
        most = Math.max(most, feed.viewers);
        if (most === 2 && feed.viewers === 1) return;
      }
      assert.fail("the one that reads was cut off");
    };
    await within(() => "the other one to be cut off", cut(), { onLate: () => void feed.stop() });
  });
});

Deno.test("32 may watch, the next one is told to come back, and everybody else is answered", async () => {
  await withFeed(liveSource(), {}, async (url, feed) => {
    const streams = await Promise.all(
      Array.from({ length: 32 }, () => fetch(`${url}/s/live`)),
    );
    for (const { status, headers } of streams) {
      assert.equal(status, 200);
      assert.equal(headers.get("content-type"), "text/event-stream; charset=utf-8");
      assert.equal(headers.get("cache-control"), "no-store");
    }
    const refused = await fetch(`${url}/s/live`);
    assert.equal(refused.status, 429);
    assert.match(refused.headers.get("retry-after") ?? "", /^\d+$/);
    assert.equal((await refused.json()).error.code, "too-busy");
    const ping = await fetch(`${url}/s/ping`);
    assert.deepEqual([ping.status, await ping.json()], [200, { status: "ok" }]);
    await streams[0].body?.cancel();
    await within(
      () => "the place of one that has left",
      (async () => {
        while (!feed.hasRoom) await new Promise((resolve) => setTimeout(resolve, 5));
      })(),
    );
    const head = await fetch(`${url}/s/live`, { method: "HEAD" });
    assert.deepEqual([head.status, await head.text(), feed.viewers], [200, "", 31]);
    await Promise.all(streams.slice(1).map(({ body }) => body?.cancel()));
  });
});

Deno.test("streams end with the door, in order, and hold nothing up", async () => {
  let events: ReturnType<typeof liveEvents> | null = null;
  await withFeed(liveSource(), {}, async (url) => {
    events = liveEvents((await fetch(`${url}/s/live`)).body);
    assert.equal((await events.next()).value?.event, "hello");
  });
  // To its end, which would throw where it was cut off.
  for await (const _event of events ?? []);
});

Deno.test("the front for curl, the token for all of it, and a stop that ends the streams", async () => {
  const config = { msg_storage: "memory", stats_token: "secret", s2s_secret: "verysecret" };
  await using pushd = await startPushd({ config });
  for (const path of ["/", "/s/live", "/page/page.js"]) {
    const { status, body } = await pushd.get(path, { headers: { Authorization: "Bearer wrong" } });
    await body?.cancel();
    assert.equal(status, 401, path);
  }
  const headers = { Authorization: `Basic ${btoa("anybody:secret")}` };
  const text = await (await pushd.get("/", { headers })).text();
  assert.match(text, /^ready\npushd \d+\.\d+\.\d+, node .*\n/);
  assert.match(text, /\nGET \/readyz /);
  const html = await pushd.get("/", { headers: { ...headers, Accept: "text/html" } });
  assert.match(await html.text(), /^<!DOCTYPE html>/);
  assert.match(html.headers.get("content-security-policy") ?? "", /^default-src 'none'; /);
  const events = liveEvents((await pushd.get("/s/live", { headers })).body);
  const { value } = await events.next();
  assert.equal(value?.data.conf.s2s_secret, "***");
  const ended = pushd.stop();
  for await (const _event of events);
  await ended;
});
