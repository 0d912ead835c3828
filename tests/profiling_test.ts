// The door for profiles, on a server that works.

import assert from "node:assert/strict";
import { Client, type Pushd, runPushd, serverDeno, startPushd, within } from "./harness.ts";

const CONFIG = { prof_listen_addr: "127.0.0.1:0", msg_storage: "memory" };

function urlOf(pushd: Pushd, path: string): string {
  const [, origin] = /profiles: (http:\S+)/.exec(pushd.log()) ??
    assert.fail("no door for profiles");
  return `${origin}${path}`;
}

async function errorOf(response: Response): Promise<string> {
  const { error } = await response.json();
  return error.code;
}

/** Publishes without a pause until `signal` is aborted. */
async function publish(client: Client, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await client.send("pub c hello\n".repeat(500));
    await client.lines(500);
  }
}

interface Profile {
  nodes: { callFrame: { functionName: string; url: string } }[];
  samples: number[];
  timeDeltas: number[];
}

Deno.test("/profile: names what the server does, one at a time, and ends when its client leaves", async () => {
  await using pushd = await startPushd({ config: { ...CONFIG, node_id: 'a/b"c"' } });
  using client = await Client.connect(pushd.port);
  const over = new AbortController();
  const publishing = publish(client, over.signal);
  const response = fetch(urlOf(pushd, "/profile?seconds=1"));
  await pushd.waitForLog(/a profile is taken/);
  for (const path of ["/profile", "/heap"]) {
    const second = await fetch(urlOf(pushd, path));
    assert.deepEqual([second.status, await errorOf(second)], [429, "too-busy"]);
    assert.equal(second.headers.get("retry-after"), "1");
  }
  const first = await within(() => "the profile", response);
  assert.match(
    first.headers.get("content-disposition") ?? "",
    /^attachment; filename="pushd-a-b-c--\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.cpuprofile"$/,
  );
  const profile: Profile = await first.json();
  over.abort();
  await publishing;
  assert.ok(profile.samples.length > 100);
  assert.equal(profile.samples.length, profile.timeDeltas.length);
  const own = profile.nodes.map(({ callFrame }) => callFrame).filter(({ url }) =>
    /pushd|src/.test(url)
  );
  assert.ok(
    own.some(({ functionName }) => functionName === "publish"),
    "no function of the server",
  );

  const leaving = new AbortController();
  const left = fetch(urlOf(pushd, "/profile?seconds=300"), { signal: leaving.signal });
  await pushd.waitForLog(/a profile is taken seconds=300/);
  leaving.abort();
  await assert.rejects(left);
  let status = 429;
  const asking = (async () => {
    while (status === 429) {
      const response = await fetch(urlOf(pushd, "/profile?seconds=1"));
      status = response.status;
      await response.body?.cancel();
    }
  })();
  await within(() => "another profile", asking);
  assert.equal(status, 200);
});

/** Deno 2.4 has no heap snapshots, and the answer says so. */
async function assertNoHeap(url: string, headers: HeadersInit): Promise<void> {
  const response = await fetch(url, { headers });
  const { error } = await response.json();
  assert.deepEqual([response.status, error.code], [501, "not-implemented"]);
  assert.match(error.message, /^the runtime cannot write its heap down: .*v8/);
}

Deno.test("/heap: what memory holds, and only with the token", async () => {
  await using pushd = await startPushd({ config: { ...CONFIG, stats_token: "t" } });
  for (const path of ["/", "/healthz", "/profile", "/heap"]) {
    const refused = await fetch(urlOf(pushd, path));
    assert.deepEqual([refused.status, await errorOf(refused)], [401, "need-auth"]);
  }
  const headers = { Authorization: "Bearer t" };
  if ((await serverDeno()).startsWith("2.4.")) {
    return await assertNoHeap(urlOf(pushd, "/heap"), headers);
  }
  const head = await fetch(urlOf(pushd, "/heap"), { method: "HEAD", headers });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
  assert.doesNotMatch(pushd.log(), /heap snapshot/);
  const response = await fetch(urlOf(pushd, "/heap"), { headers });
  assert.match(response.headers.get("content-disposition") ?? "", /\.heapsnapshot"$/);
  const { snapshot, strings } = await response.json();
  assert.ok(snapshot.meta.node_fields.includes("self_size"));
  assert.ok(strings.includes("HistoryCache"));
});

Deno.test("prof_listen_addr: on loopback only, and a port that is taken is named", async () => {
  const open = { PUSHD_PROF_LISTEN_ADDR: "0.0.0.0:0" };
  const { code, stderr } = await runPushd([], { env: open });
  assert.equal(code, 2);
  assert.match(stderr, /PUSHD_PROF_LISTEN_ADDR.*profiles are served on loopback only/);
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const taken = await runPushd([], {
    env: {
      PUSHD_TCP_LISTEN_ADDR: "127.0.0.1:0",
      PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
      PUSHD_PROF_LISTEN_ADDR: `127.0.0.1:${listener.addr.port}`,
    },
  });
  assert.equal(taken.code, 1);
  assert.match(taken.stderr, /prof_listen_addr: cannot listen on .*already in use/);
});
