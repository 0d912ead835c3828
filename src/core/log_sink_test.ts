// The log's queue against outputs that are slow, partial, failing, full, moved or removed.

import assert from "node:assert/strict";
import { FileOutput, type LogOutput, LogSink } from "./log_sink.ts";

/** An output in memory that can be made to fail, to wait, and to take little at a time. */
class FakeOutput implements LogOutput {
  text = "";
  writes = 0;
  error: Error | null = null;
  maxBytes = Infinity;
  gate: Promise<void> | null = null;

  async write(bytes: Uint8Array): Promise<number> {
    await this.gate;
    if (this.error !== null) throw this.error;
    const part = bytes.subarray(0, Math.min(this.maxBytes, bytes.length));
    this.text += new TextDecoder().decode(part);
    this.writes++;
    return part.length;
  }
}

function newSink(output: LogOutput, maxQueueBytes = 1000) {
  const failures: string[] = [];
  const sink = new LogSink({
    output,
    maxQueueBytes,
    notice: (message, properties) => `[${message} ${JSON.stringify(properties)}]\n`,
    onFailure: (reason) => failures.push(reason),
    retryMs: 1,
  });
  return { sink, failures };
}

Deno.test("log sink: the lines of one turn go out in order in one write", async () => {
  const output = new FakeOutput();
  const { sink } = newSink(output);
  for (let i = 0; i < 10; i++) sink.write(`line ${i}\n`);
  assert.equal(await sink.flush(1000), true);
  assert.equal(output.text, Array.from({ length: 10 }, (_, i) => `line ${i}\n`).join(""));
  assert.equal(output.writes, 1);
});

Deno.test("log sink: an output that takes three bytes at a time gets everything", async () => {
  const output = new FakeOutput();
  output.maxBytes = 3;
  const { sink } = newSink(output);
  sink.write("first line\n");
  sink.write("second line\n");
  assert.equal(await sink.flush(1000), true);
  assert.equal(output.text, "first line\nsecond line\n");
});

Deno.test("log sink: what does not fit is dropped, counted, and reported where it is missing", async () => {
  const output = new FakeOutput();
  const gate = Promise.withResolvers<void>();
  output.gate = gate.promise;
  const { sink } = newSink(output, 40);
  for (let i = 0; i < 10; i++) sink.write(`line ${i} \n`); // 8 bytes each: 5 fit
  assert.equal(sink.dropped, 5);
  assert.equal(await sink.flush(5), false);
  gate.resolve();
  assert.equal(await sink.flush(1000), true);
  sink.write("later\n");
  assert.equal(await sink.flush(1000), true);
  const lines = output.text.split("\n");
  assert.deepEqual(lines.slice(0, 5), ["line 0 ", "line 1 ", "line 2 ", "line 3 ", "line 4 "]);
  assert.deepEqual(lines.slice(5), ['[log lines were dropped {"lines":5}]', "later", ""]);
});

Deno.test("log sink: a failing output is told of once, tried again, and nothing is lost", async () => {
  const output = new FakeOutput();
  output.error = new Error("No space left on device");
  const { sink, failures } = newSink(output);
  sink.write("before\n");
  assert.equal(await sink.flush(1000), false);
  assert.equal(await sink.flush(1000), false);
  assert.deepEqual(failures, ["No space left on device"]);
  output.error = null;
  assert.equal(await sink.flush(1000), true);
  assert.match(output.text, /^before\n\[the log could not be written for a while .*No space left/);
});

Deno.test("log sink: a full non-blocking pipe is no failure", async () => {
  const output = new FakeOutput();
  output.error = new Deno.errors.WouldBlock("Resource temporarily unavailable");
  const { sink, failures } = newSink(output);
  sink.write("line\n");
  assert.equal(await sink.flush(1000), false);
  output.error = null;
  assert.equal(await sink.flush(1000), true);
  assert.equal(output.text, "line\n");
  assert.deepEqual(failures, []);
});

Deno.test("log sink: reopen puts a line that was cut into the new file as a whole", async () => {
  const output = new FakeOutput();
  output.maxBytes = 9;
  const { sink } = newSink(output);
  const write = output.write.bind(output);
  output.write = async (bytes) => {
    const count = await write(bytes);
    output.error = new Error("No space left on device"); // after the first nine bytes
    return count;
  };
  sink.write("line 1\n");
  sink.write("line 2\n");
  assert.equal(await sink.flush(1000), false);
  assert.equal(output.text, "line 1\nli");
  output.write = write;
  output.error = null;
  output.text = "";
  sink.reopen();
  assert.equal(await sink.flush(1000), true);
  assert.match(output.text, /^line 2\n\[the log could not/);
});

Deno.test("log file: moved away, it is written to until reopen, then a new one; no line is lost", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const { sink } = newSink(new FileOutput(`${dir}/log`), 1e6);
    for (let i = 0; i < 100; i++) sink.write(`${i}\n`);
    await sink.flush(1000);
    await Deno.rename(`${dir}/log`, `${dir}/log.1`);
    for (let i = 100; i < 200; i++) sink.write(`${i}\n`);
    await sink.flush(1000);
    sink.reopen();
    for (let i = 200; i < 300; i++) sink.write(`${i}\n`);
    await sink.close(1000);
    const read = async (name: string) => (await Deno.readTextFile(`${dir}/${name}`)).split("\n");
    assert.deepEqual(await read("log.1"), [...Array(200).keys(), ""].map(String));
    assert.deepEqual(await read("log"), [...Array(100).keys()].map((i) => `${i + 200}`).concat(""));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("log file: its folder removed, it goes on when the folder is back, and says so", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${dir}/logs`);
    const { sink, failures } = newSink(new FileOutput(`${dir}/logs/log`), 1e6);
    sink.write("before\n");
    await sink.flush(1000);
    await Deno.remove(`${dir}/logs`, { recursive: true });
    sink.write("meanwhile\n");
    assert.equal(await sink.flush(1000), false);
    assert.equal(failures.length, 1);
    await Deno.mkdir(`${dir}/logs`);
    assert.equal(await sink.flush(1000), true);
    await sink.close(1000);
    assert.match(await Deno.readTextFile(`${dir}/logs/log`), /^meanwhile\n\[the log could not/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
