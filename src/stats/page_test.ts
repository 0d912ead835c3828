// The page's files and the front, without a socket.

import assert from "node:assert/strict";
import { liveNumbers, liveSource, shownConnection, shownNode } from "../../tests/live_source.ts";
import { statsDeps } from "../../tests/stats_deps.ts";
import { createStatsApp } from "./app.ts";
import { LiveFeed } from "./live_feed.ts";
import type { LiveSource } from "./live_source.ts";
import { pageFileNames } from "./page_files.ts";

function newApp(overrides: Partial<LiveSource> = {}) {
  const feed = new LiveFeed(liveSource(overrides));
  const app = createStatsApp(statsDeps(), feed);
  return {
    feed,
    ask: (path: string, headers: Record<string, string> = {}, method = "GET") =>
      app.request(path, { method, headers: { Host: "localhost", ...headers } }),
  };
}

Deno.test("page: every file has its type, a policy and an ETag that spares the next answer", async () => {
  const { ask } = newApp();
  for (const name of pageFileNames()) {
    const path = `/page/${name}`;
    const answer = await ask(path);
    const text = await answer.text();
    assert.equal(answer.status, 200, name);
    assert.ok(text.length > 100, name);
    const { headers } = answer;
    assert.match(
      headers.get("content-type") ?? "",
      /^(text\/(html|css|javascript); charset=utf-8|image\/svg\+xml)$/,
    );
    assert.equal(headers.get("cache-control"), "no-cache");
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("referrer-policy"), "no-referrer");
    assert.match(
      headers.get("content-security-policy") ?? "",
      /^default-src 'none'; script-src 'self'; /,
    );
    const etag = headers.get("etag") ?? "";
    assert.match(etag, /^"[\w-]{20,}"$/);
    for (const known of [etag, `"old", ${etag}`, `W/${etag}`, `W/"old",W/${etag} , "x"`, "*"]) {
      const same = await ask(path, { "If-None-Match": known });
      assert.deepEqual([same.status, await same.text(), same.headers.get("etag")], [304, "", etag]);
    }
    for (const known of ['"old"', 'W/"old"', etag.slice(1, -1), `w/${etag}`, `W/W/${etag}`]) {
      assert.equal((await ask(path, { "If-None-Match": known })).status, 200, known);
    }
    // A page that needs something from elsewhere does not work where it is needed most.
    if (name.endsWith(".html") || (name.endsWith(".css") && name !== "uplot.css")) {
      assert.doesNotMatch(text, /https?:\/\/|<style|style=|<script>/);
    }
  }
});

Deno.test("page: other files, other methods", async () => {
  const { ask } = newApp();
  for (
    const path of ["/page/nothing.js", "/page/", "/page", "/page/..%2fapp.ts", "/page/__proto__"]
  ) {
    const answer = await ask(path);
    assert.deepEqual([answer.status, (await answer.json()).error.code], [404, "not-found"], path);
  }
  for (const path of ["/", "/page/page.css", "/s/live"]) {
    assert.equal((await ask(path, {}, "POST")).status, 405);
    assert.equal((await ask(path, {}, "OPTIONS")).status, 204);
  }
});

Deno.test("page: the licence of what is not ours goes with it", async () => {
  const text = await (await newApp().ask("/page/uplot.js")).text();
  assert.match(text, /^\/\*!\nThe MIT License/);
  assert.match(text, /Copyright \(c\) .* Leon Sorokin/);
});

Deno.test("front: HTML for who takes it by name, text for everybody else", async () => {
  const { ask } = newApp();
  const takesHtml = [
    "text/html,application/xhtml+xml,*/*;q=0.8",
    "TEXT/HTML",
    "text/plain, text/html;charset=utf-8",
    "application/json;q=0, text/html; q=0.1",
  ];
  for (const accept of takesHtml) {
    const answer = await ask("/", { Accept: accept });
    assert.match(await answer.text(), /^<!DOCTYPE html>/);
    assert.equal(answer.headers.get("vary"), "Accept");
  }
  const others = ["", "*/*", "application/json", "text/html;q=0", "*/*, text/html; Q=0.000"];
  for (const accept of [...others, "text/plain, text/html;q=0.9", "text/htmlx", "x-text/html"]) {
    const answer = await ask("/", accept === "" ? {} : { Accept: accept });
    assert.match(answer.headers.get("content-type") ?? "", /^text\/plain/);
    assert.match(await answer.text(), /^ready\npushd 1\.2\.3, node host:2222, up 1 h 2 min\n/);
  }
});

Deno.test("front: what is wrong is said first, and names cannot steer a terminal", async () => {
  let published = 0;
  const { ask, feed } = newApp({
    readiness: () => ({ ready: false, failing: ["storage", "etc"] }),
    liveNumbers: () => liveNumbers({ connections: 12_345, published: published += 1000, lagMs: 7 }),
    nodes: () => ({
      node: "a",
      cluster: "house",
      nodes: [shownNode({ state: "down", replay_bytes: 1_500_000, lost: 3 })],
    }),
    lists: {
      channels: () =>
        Promise.resolve([
          { channel: "a\x1b[2J\u202e", app: "", subscribers: 5, published: 6, last_ts: 0 },
        ]),
      connections: () =>
        Promise.resolve([
          shownConnection({ user: "eve", pending: 2048 }),
        ]),
    },
  });
  feed.sampler.sample(1000);
  feed.sampler.sample(2000);
  const text = await (await ask("/")).text();
  assert.match(text, /^NOT READY: storage \(the store .*\), etc \(ZooKeeper .*\)\n/);
  for (
    const part of [
      /\nconnections 0, in [\d,]+ messages\/s /,
      /\nevent loop 7\.0 ms late, memory [\d.]+ MB, processor \d+ % of a core\n/,
      /\ncluster house: 0 of 1 nodes up\n {2}b {2}down, 1\.5 MB waiting, 3 messages lost\n/,
      /\n {2}a\ufffd\[2J\ufffd {2}5 subscribers, 6 published\n/,
      /\n {2}::1 eve {2}2\.0 kB waiting\n/,
      /\nGET \/s\/stat /,
    ]
  ) {
    assert.match(text, part);
  }
});

Deno.test("page: its types are those of the uPlot that is served", async () => {
  const read = async (path: string) =>
    JSON.parse(await Deno.readTextFile(new URL(path, import.meta.url))).imports.uplot;
  assert.equal(await read("./dashboard/check.json"), await read("../../deno.json"));
});
