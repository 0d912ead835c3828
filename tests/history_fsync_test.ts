// PUBLISHED is not sent before the commit that holds the message has been synced to the disk.

import assert from "node:assert/strict";
import { Client, startPushd } from "./harness.ts";
import { requireTool } from "./require.ts";
import { Strace } from "./strace.ts";

const WRITES = /\b(?:write|writev|sendto|sendmsg)\(/;

interface Call {
  /** Where it stands in the trace. */
  line: number;
  text: string;
}

/** The syncs of the WAL that succeeded, each from its beginning to its end. */
function syncsIn(trace: readonly string[]): { begin: number; end: number }[] {
  const found: { begin: number; end: number }[] = [];
  const begun = new Map<string, number>();
  trace.forEach((text, line) => {
    const thread = /^\[pid +(\d+)\]/.exec(text)?.[1] ?? "";
    if (/\b(?:fsync|fdatasync)\(\d+<[^>]*-wal>/.test(text)) {
      if (/ = 0$/.test(text)) found.push({ begin: line, end: line });
      else if (/<unfinished \.\.\.>$/.test(text)) begun.set(thread, line);
    } else if (/<\.\.\. (?:fsync|fdatasync) resumed>.* = 0$/.test(text)) {
      const begin = begun.get(thread);
      begun.delete(thread);
      if (begin !== undefined) found.push({ begin, end: line });
    }
  });
  return found;
}

function callWith(trace: readonly string[], text: string, isReply: boolean): Call {
  const line = trace.findIndex((entry) => entry.includes(text) && WRITES.test(entry) === isReply);
  assert.ok(line >= 0, `${text} is not in the trace:\n${trace.join("\n")}`);
  return { line, text: trace[line] };
}

const strace = requireTool("strace");
Deno.test({
  name: `an fsync lies between each publish and its PUBLISHED${strace.reason}`,
  ignore: strace.ignore,
  async fn() {
    await using pushd = await startPushd({ config: { msg_storage: "sqlite" } });
    using client = await Client.connect(pushd.port);
    // What is traced at first is not what is looked at.
    await client.ask("pub c warm-up", /^PUBLISHED/);
    await using trace = await Strace.attach(
      pushd.pid,
      "-s",
      "4096",
      "-e",
      "trace=fsync,fdatasync,write,writev,sendto,sendmsg,recvfrom,recvmsg,read,readv",
    );
    const published: { request: string; ts: string }[] = [];
    for (let i = 0; i < 5; i++) {
      const request = `pub c one-by-one-${i}`;
      const [, ts] = await client.ask(request, /^PUBLISHED (\d{16})$/);
      published.push({ request, ts });
    }
    const burst = Array.from({ length: 20 }, (_, i) => `pub c burst-${i}.`);
    await client.send(`${burst.join("\n")}\n`);
    for (const request of burst) {
      const [, ts] = await client.expect(/^PUBLISHED (\d{16})$/);
      published.push({ request, ts });
    }
    // The reply can be here before strace has written the line of it.
    await trace.waitFor(new RegExp(`PUBLISHED ${published[published.length - 1].ts}`));
    await trace.detach();

    const lines = trace.text.split("\n");
    const syncs = syncsIn(lines);
    for (const { request, ts } of published) {
      // A read may end behind the command: the first one is small.
      const arrival = callWith(lines, request.slice("pub ".length), false);
      const reply = callWith(lines, `PUBLISHED ${ts}`, true);
      assert.ok(
        syncs.some(({ begin, end }) => arrival.line < begin && end < reply.line),
        `no fsync between\n${arrival.text}\nand\n${reply.text}`,
      );
    }
    // One by one each has its own, or the test sees syncs that nothing waits for.
    assert.ok(syncs.length >= 6 && syncs.length <= 30, `${syncs.length} syncs`);
  },
});

Deno.test({
  name: `with policy 1 PUBLISHED does not wait for the fsync${strace.reason}`,
  ignore: strace.ignore,
  async fn() {
    await using pushd = await startPushd({
      config: { msg_storage: "sqlite", msg_storage_flush_policy: 1 },
    });
    using client = await Client.connect(pushd.port);
    await using trace = await Strace.attach(
      pushd.pid,
      "-e",
      "trace=fsync,fdatasync,sendto,write,writev,sendmsg",
    );
    const [, ts] = await client.ask("pub c x", /^PUBLISHED (\d{16})$/);
    await trace.waitFor(new RegExp(`PUBLISHED ${ts}[^]*(?:fsync|fdatasync)\\(\\d+<[^>]*-wal>`));
  },
});
