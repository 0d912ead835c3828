// Tests of the watch over files, by the ways in which editors and deployments replace them.

import assert from "node:assert/strict";
import { within } from "../../tests/harness_within.ts";
import { FileWatch, type FileWatchOptions } from "./file_watch.ts";

/** A watch over files in a folder of its own, and what it told. */
class Bench implements AsyncDisposable {
  /** The texts of the files at each change; null for one that is not there. */
  readonly changes: (string | null)[][] = [];
  readonly missing: string[] = [];
  names = ["pushd.cf"];
  /** Called at the start of each look. */
  onLook = () => {};
  onChange: () => void | Promise<void> = () => {};
  readonly #watch: FileWatch;
  readonly #abort = new AbortController();
  #run: Promise<void> | null = null;
  #looks = 0;

  private constructor(readonly folder: string, options: Partial<FileWatchOptions>) {
    // No text that follows at once is as long: within a tick of the kernel, times are the same.
    this.write("pushd.cf", "zero");
    this.#watch = new FileWatch({
      paths: () => {
        this.#looks++;
        this.onLook();
        return this.names.map((name) => this.path(name));
      },
      intervalMs: 20,
      // So that a slow machine does not find missing what a test is about to write.
      emptyWaitMs: 60_000,
      onChange: () => {
        this.changes.push(this.names.map((name) => this.read(name)));
        return this.onChange();
      },
      onMissing: (path, state) => this.missing.push(`${path.replace(`${folder}/`, "")} ${state}`),
      ...options,
    });
  }

  /** A watch over pushd.cf, which says "zero"; `isRunning` unless the test starts it. */
  static async open(options: Partial<FileWatchOptions> = {}, isRunning = true): Promise<Bench> {
    const bench = new Bench(await Deno.makeTempDir({ prefix: "pushd-watch-" }), options);
    if (isRunning) bench.start();
    return bench;
  }

  start(): void {
    this.#run = this.#watch.run(this.#abort.signal);
  }

  path(name: string): string {
    return `${this.folder}/${name}`;
  }

  write(name: string, text: string): void {
    Deno.writeTextFileSync(this.path(name), text);
  }

  read(name: string): string | null {
    try {
      return Deno.readTextFileSync(this.path(name));
    } catch {
      return null;
    }
  }

  rename(from: string, to: string): void {
    Deno.renameSync(this.path(from), this.path(to));
  }

  /** Waits until, at the start of a look, `isSo`. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    const before = this.onLook;
    const done = new Promise<void>((resolve) => {
      this.onLook = () => {
        before();
        if (isSo()) resolve();
      };
    });
    await within(() => what, done);
    this.onLook = before;
  }

  /** Waits until there have been `count` whole looks more. */
  async looks(count: number): Promise<void> {
    const start = this.#looks;
    await this.until(`${count} looks`, () => this.#looks > start + count);
  }

  /** Waits for the change with this number, and that there is no further one. */
  async changed(number: number, ...texts: (string | null)[]): Promise<void> {
    await this.until(`change ${number}`, () => this.changes.length >= number);
    await this.looks(4);
    assert.equal(this.changes.length, number);
    assert.deepEqual(this.changes[number - 1], texts);
  }

  /** Ends as the watch does. */
  async ended(): Promise<void> {
    const run = this.#run;
    this.#run = null;
    if (run !== null) await within(() => "the end of the watch", run);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.ended();
    await Deno.remove(this.folder, { recursive: true });
  }
}

Deno.test("FileWatch: a file that is left alone is no change, one that is written is", async () => {
  await using bench = await Bench.open();
  await bench.looks(4);
  assert.deepEqual(bench.changes, []);
  bench.write("pushd.cf", "two");
  await bench.changed(1, "two");
  bench.write("pushd.cf", "three");
  await bench.changed(2, "three");
});

Deno.test("FileWatch: several writes in a row are one change", async () => {
  await using bench = await Bench.open();
  let text = "";
  bench.onLook = () => {
    if (text.length < 6) bench.write("pushd.cf", text += "x");
  };
  await bench.until("the writes", () => text.length === 6);
  assert.deepEqual(bench.changes, []);
  await bench.changed(1, "xxxxxx");
});

Deno.test("FileWatch: a file renamed into place, again and again", async () => {
  await using bench = await Bench.open();
  for (const [i, text] of ["two", "six", "ten"].entries()) {
    bench.write("pushd.cf.new", text);
    bench.rename("pushd.cf.new", "pushd.cf");
    await bench.changed(i + 1, text);
  }
});

Deno.test("FileWatch: a link replaced by one to another folder, as a config map is", async () => {
  await using bench = await Bench.open({}, false);
  await Deno.remove(bench.path("pushd.cf"));
  for (const [folder, text] of [["..2026_1", "zero"], ["..2026_2", "two"]]) {
    await Deno.mkdir(bench.path(folder));
    bench.write(`${folder}/pushd.cf`, text);
  }
  await Deno.symlink("..2026_1", bench.path("..data"));
  await Deno.symlink("..data/pushd.cf", bench.path("pushd.cf"));
  bench.start();
  await bench.changed(1, "zero");
  await Deno.symlink("..2026_2", bench.path("..data_tmp"));
  bench.rename("..data_tmp", "..data");
  await Deno.remove(bench.path("..2026_1"), { recursive: true });
  await bench.changed(2, "two");
});

Deno.test("FileWatch: truncated, and written later: one change, with the whole text", async () => {
  await using bench = await Bench.open();
  bench.write("pushd.cf", "");
  await bench.looks(8);
  assert.deepEqual(bench.changes, []);
  bench.write("pushd.cf", "two");
  await bench.changed(1, "two");
  assert.deepEqual(bench.missing, []);
});

Deno.test("FileWatch: removed and back is one change, also with the same text", async () => {
  await using bench = await Bench.open();
  await Deno.remove(bench.path("pushd.cf"));
  await bench.looks(8);
  assert.deepEqual(bench.changes, []);
  bench.write("pushd.cf", "zero");
  await bench.changed(1, "zero");
  assert.deepEqual(bench.missing, []);
});

Deno.test("FileWatch: a file that stays missing or empty is told of once each time", async () => {
  await using bench = await Bench.open({ emptyWaitMs: 30 });
  await Deno.remove(bench.path("pushd.cf"));
  await bench.until("missing", () => bench.missing.length > 0);
  await bench.looks(4);
  bench.write("pushd.cf", "two");
  await bench.changed(1, "two");
  bench.write("pushd.cf", "");
  await bench.until("empty", () => bench.missing.length > 1);
  await bench.looks(4);
  assert.deepEqual(bench.missing, ["pushd.cf missing", "pushd.cf empty"]);
  bench.write("pushd.cf", "two");
  await bench.changed(2, "two");
});

Deno.test("FileWatch: one that never was there is not told of, and is a change when it comes", async () => {
  await using bench = await Bench.open({ emptyWaitMs: 0 }, false);
  bench.names.push("later.pem", "folder/later.pem");
  bench.start();
  await bench.looks(4);
  assert.deepEqual([bench.changes, bench.missing], [[], []]);
  bench.write("later.pem", "cert");
  await bench.changed(1, "zero", "cert", null);
});

Deno.test("FileWatch: others wait for a file that is gone, but not for ever", async () => {
  await using bench = await Bench.open({ emptyWaitMs: 200 });
  bench.onChange = () => assert.equal(bench.missing.length, 1);
  bench.write("key.pem", "key");
  bench.names.push("key.pem");
  await bench.looks(2);
  await Deno.remove(bench.path("key.pem"));
  bench.write("pushd.cf", "two");
  await bench.changed(1, "two", null);
  assert.deepEqual(bench.missing, ["key.pem missing"]);
});

Deno.test("FileWatch: the set of files can change, which is no change by itself", async () => {
  await using bench = await Bench.open();
  bench.write("cert.pem", "cert");
  bench.names = ["pushd.cf", "cert.pem", "cert.pem"];
  await bench.looks(4);
  assert.deepEqual(bench.changes, []);
  bench.write("cert.pem", "renewed");
  await bench.changed(1, "zero", "renewed", "renewed");
  bench.names = ["pushd.cf"];
  await bench.looks(1);
  bench.write("cert.pem", "once more");
  await bench.looks(4);
  assert.equal(bench.changes.length, 1);
});

Deno.test("FileWatch: a touch is a change; so is what was written before the watch ran", async () => {
  await using bench = await Bench.open({}, false);
  bench.write("pushd.cf", "while starting");
  bench.start();
  await bench.changed(1, "while starting");
  await Deno.utime(bench.path("pushd.cf"), 1, 1);
  await bench.changed(2, "while starting");
});

Deno.test("FileWatch: looks again only when onChange is done, and misses nothing meanwhile", async () => {
  await using bench = await Bench.open();
  let isReloading = false;
  bench.onLook = () => assert.ok(!isReloading, "a look while onChange was under way");
  bench.onChange = async () => {
    if (bench.changes.length > 1) return;
    isReloading = true;
    bench.write("pushd.cf", "three");
    // What a reload may take, which is longer than the time between two looks.
    await new Promise((resolve) => setTimeout(resolve, 100));
    isReloading = false;
  };
  bench.write("pushd.cf", "two");
  await bench.changed(2, "three");
  assert.deepEqual(bench.changes[0], ["two"]);
});

Deno.test("FileWatch: ends at once when it is aborted, and with what onChange throws", async () => {
  const startMs = performance.now();
  const bench = await Bench.open({ intervalMs: 60_000 });
  await bench[Symbol.asyncDispose]();
  assert.ok(performance.now() - startMs < 10_000);

  await using throws = await Bench.open();
  throws.onChange = () => {
    throw new RangeError("a bug");
  };
  throws.write("pushd.cf", "two");
  await assert.rejects(throws.ended(), RangeError);
});
