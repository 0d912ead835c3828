// What can be wrong with an SQLite file: at the start, and while it is in use.

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { BASE_TS, block, readAll } from "../../tests/store_model.ts";
import { StoreError, type StoreFault } from "../engine/ports/history_store.ts";
import { SqliteStore } from "./sqlite.ts";
import { APPLICATION_ID, migrate, MIGRATIONS, readVersion } from "./sqlite_schema.ts";

const ONE = [block("app", "ch", "n", [{ ts: BASE_TS, text: "one" }])];
const TWO = [block("app", "ch", "n", [{ ts: BASE_TS + 1, text: "two" }])];

/** Asserts that `path` is refused with `message`, twice, and is the same afterwards. */
async function refuses(path: string, message: RegExp): Promise<void> {
  const read = () => Deno.readFile(path).catch(() => null);
  const before = await read();
  const store = new SqliteStore({ path });
  for (let i = 0; i < 2; i++) {
    await rejects(store.open(), "unusable", new RegExp(path), message);
  }
  await store.close();
  assert.deepEqual(await read(), before);
}

async function rejects(promise: Promise<unknown>, fault: StoreFault, ...messages: RegExp[]) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof StoreError, String(error));
    for (const message of messages) assert.match(error.message, message);
    assert.equal(error.fault, fault);
    return true;
  });
}

Deno.test("sqlite: what is no database of ours is refused, and left alone", async () => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text`, "some text\n".repeat(500));
    await Deno.writeTextFile(`${folder}/short`, "x");
    await Deno.writeFile(`${folder}/nuls`, new Uint8Array(8192));
    const foreign = new DatabaseSync(`${folder}/foreign`);
    foreign.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    foreign.close();
    const other = new DatabaseSync(`${folder}/other`);
    other.exec("PRAGMA application_id = 7; CREATE TABLE channels (a)");
    other.close();
    await refuses(`${folder}/text`, /not an SQLite database/);
    await refuses(`${folder}/short`, /not an SQLite database/);
    await refuses(`${folder}/nuls`, /not an SQLite database/);
    await refuses(`${folder}/foreign`, /another application/);
    await refuses(`${folder}/other`, /another application/);
    await refuses(folder, /a folder/);
    await refuses(`${folder}/missing/pushd.db`, /folder does not exist/);
    await refuses(`${folder}/text/pushd.db`, /cannot be opened|folder does not exist/);
    await refuses("/dev/null", /not a regular file/);
  });
});

Deno.test("sqlite: an empty file is a new database", async () => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/a.db`, "");
    await keepsMessages(`${folder}/a.db`);
  });
});

Deno.test("sqlite: a newer layout is refused", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/a.db`;
    await keepsMessages(path);
    const db = new DatabaseSync(path);
    db.exec("PRAGMA user_version = 999");
    db.close();
    await refuses(path, /newer version of pushd \(layout 999/);
  });
});

Deno.test("sqlite: a damaged file is refused, or says so when it is read", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/a.db`;
    const store = new SqliteStore({ path });
    await store.open();
    for (let i = 0; i < 50; i++) {
      await store.append([
        block("app", `ch${i}`, "n", [{ ts: BASE_TS + i, text: "x".repeat(9000) }]),
      ]);
    }
    await store.close();
    const good = await Deno.readFile(path);
    // Without its end.
    await Deno.writeFile(path, good.slice(0, 5000));
    await refuses(path, /damaged/);
    // With its header only.
    await Deno.writeFile(path, good.map((byte, i) => i < 100 ? byte : 0xa5));
    await refuses(path, /damaged/);
    // In the pages behind the tables' roots.
    await Deno.writeFile(path, good.map((byte, i) => i < 60_000 ? byte : 0xa5));
    const damaged = new SqliteStore({ path });
    const opened = await damaged.open().then(() => true, (error) => {
      assert.ok(error instanceof StoreError);
      return false;
    });
    if (opened) {
      const faults: unknown[] = [];
      for (let i = 0; i < 50; i++) {
        const request = { app: "app", channel: `ch${i}`, afterTs: 0, maxMessages: 9, maxBytes: 99 };
        await damaged.read(request).catch((error) => faults.push(error));
      }
      for (const error of faults) {
        assert.ok(error instanceof StoreError && error.message.includes(path), String(error));
      }
    }
    await damaged.close();
  });
});

Deno.test("sqlite: a second user of the file is refused, the next one is not", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/a.db`;
    const store = new SqliteStore({ path });
    await store.open();
    await store.append(ONE);
    // In this process: the first must keep its locks.
    const second = new SqliteStore({ path: `${folder}/./a.db` });
    await rejects(second.open(), "unusable", /another pushd is using it/);
    await store.close();
    await second.open();
    assert.equal((await readAll(second, "app", "ch")).length, 1);
    await second.close();
  });
});

Deno.test("sqlite: a process keeps the file to itself until it ends, even by kill -9", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/a.db`;
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        `const { SqliteStore } = await import(${
          JSON.stringify(import.meta.resolve("./sqlite.ts"))
        });
         const { block, BASE_TS } = await import(${
          JSON.stringify(import.meta.resolve("../../tests/store_model.ts"))
        });
         const store = new SqliteStore({ path: ${JSON.stringify(path)} });
         await store.open();
         await store.append([block("app", "ch", "n", [{ ts: BASE_TS, text: "one" }])]);
         console.log("kept");`,
      ],
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    const store = new SqliteStore({ path });
    await rejects(store.open(), "unusable", /another pushd is using it/, new RegExp(path));
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    assert.deepEqual(await store.open(), { lastTs: BASE_TS });
    assert.equal((await readAll(store, "app", "ch"))[0].text, "one");
    await store.close();
  });
});

Deno.test("sqlite: migrations run once, in order, all or none", () => {
  const db = new DatabaseSync(":memory:");
  migrate(db, MIGRATIONS);
  assert.deepEqual(readVersion(db), { applicationId: APPLICATION_ID, version: MIGRATIONS.length });
  db.exec("INSERT INTO channels (app, name) VALUES ('a', 'b')");
  const more = [...MIGRATIONS, "ALTER TABLE channels ADD COLUMN x INTEGER DEFAULT 5"];
  assert.throws(() => migrate(db, [...more, "ALTER TABLE nothing ADD COLUMN y"]));
  assert.equal(readVersion(db).version, MIGRATIONS.length);
  migrate(db, more);
  migrate(db, more);
  assert.equal(readVersion(db).version, more.length);
  assert.equal(db.prepare("SELECT x FROM channels").get()?.x, 5);
  db.close();
});

Deno.test("sqlite: somebody else's transaction: the append fails, and all is well again after open", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/a.db`;
    const store = new SqliteStore({ path });
    await store.open();
    await store.append(ONE);
    const shell = new DatabaseSync(path);
    shell.exec("BEGIN IMMEDIATE");
    await rejects(store.append(TWO), "unavailable", /locked/, new RegExp(path));
    shell.exec("ROLLBACK");
    await rejects(store.append(TWO), "unavailable", /opened anew/, /locked/);
    await rejects(
      store.tokens.put({ hash: "h", app: "a", user: "u", ttlMs: 1000 }, 9),
      "unavailable",
      /opened anew/,
    );
    assert.deepEqual(await store.open(), { lastTs: BASE_TS });
    await store.forget([{ ...TWO[0] }]);
    await store.append(TWO);
    assert.equal((await readAll(store, "app", "ch")).length, 2);
    shell.close();
    await store.close();
  });
});

Deno.test("sqlite: a file that was moved away is not made anew", async () => {
  await withFolder(async (folder) => {
    const store = new SqliteStore({ path: `${folder}/a.db` });
    await store.open();
    await Deno.rename(`${folder}/a.db`, `${folder}/b.db`);
    await rejects(store.open(), "unusable", /moved away or replaced/);
    await store.close();
  });
});

Deno.test("sqlite: a thread that dies takes everything with it, and says so", async () => {
  await withFolder(async (folder) => {
    const deaths: StoreError[] = [];
    const source = `onmessage = ({ data }) => {
      if (data.op !== "open") throw new Error("as if it had died");
      postMessage({ id: data.id, output: { lastTs: 0 } });
    };`;
    const store = new SqliteStore({
      path: `${folder}/a.db`,
      onDeath: (error) => deaths.push(error),
      makeWorker: () =>
        new Worker(`data:application/javascript,${encodeURIComponent(source)}`, { type: "module" }),
    });
    await store.open();
    const pending = [store.append(ONE), store.append(TWO), store.tokens.find("h")];
    for (const promise of pending) await rejects(promise, "unavailable", /thread has died/);
    await rejects(store.append(ONE), "unavailable", /thread has died/);
    await rejects(store.open(), "unavailable", /thread has died/);
    assert.equal(deaths.length, 1);
    await store.close();
  });
});

const canMount = Deno.uid() === 0 &&
  new Deno.Command("unshare", { args: ["--mount", "true"] }).outputSync().success;

Deno.test({
  name: "sqlite: a full disk: refused while it is full, well again when there is space",
  // A file system of 8 MiB has to be mounted: as root, where that is allowed.
  ignore: !canMount,
  fn: async () => {
    await withMount("size=8m", async (folder) => {
      const path = `${folder}/a.db`;
      await Deno.writeFile(`${folder}/filler`, new Uint8Array(4 << 20));
      const store = new SqliteStore({ path });
      await store.open();
      await store.append(ONE);
      const big = (i: number) => [
        block("app", "big", "n", [{ ts: BASE_TS + i, text: "x".repeat(300_000) }]),
      ];
      let kept = 0;
      let failure: unknown;
      while (failure === undefined && kept < 100) {
        await store.append(big(kept)).then(() => kept++, (error) => failure = error);
      }
      await rejects(Promise.reject(failure), "unavailable", /disk is full/, new RegExp(path));
      await rejects(store.append(TWO), "unavailable", /opened anew/);
      // Opening tells whether there is space. There may be: closing makes some of the WAL's.
      await Deno.writeFile(`${folder}/more`, new Uint8Array(8 << 20)).catch(() => {});
      await store.open().catch((error) =>
        rejects(
          Promise.reject(error),
          "unavailable",
          /disk is full|cannot be opened|disk reported/,
        )
      );
      await Deno.remove(`${folder}/more`);
      await Deno.remove(`${folder}/filler`);
      await store.open();
      await store.forget([{
        app: "app",
        channel: "big",
        node: "n",
        firstTs: BASE_TS + kept,
        lastTs: BASE_TS + kept,
      }]);
      assert.equal((await readAll(store, "app", "big")).length, kept, "what was kept, and no more");
      await store.append(big(kept));
      assert.equal((await readAll(store, "app", "big")).length, kept + 1);
      await store.close();
      // At the start a full disk is named, too.
      await Deno.writeFile(`${folder}/more`, new Uint8Array(9 << 20)).catch(() => {});
      const next = new SqliteStore({ path });
      await rejects(next.open(), "unusable", /disk is full|cannot be opened|disk reported/);
      await Deno.remove(`${folder}/more`);
      await next.open();
      await next.close();
    });
  },
});

Deno.test({
  name: "sqlite: a folder that cannot be written is refused",
  ignore: !canMount,
  fn: async () => {
    await withMount("size=8m", async (folder, remount) => {
      const path = `${folder}/a.db`;
      await keepsMessages(path);
      remount("ro");
      await refuses(path, /readable and writable/);
      await refuses(`${folder}/new.db`, /readable and writable/);
      remount("rw");
      const store = new SqliteStore({ path });
      await store.open();
      await store.close();
    });
  },
});

Deno.test("sqlite: a reader that pins the WAL: it shrinks after the reader has left", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/a.db`;
    const walBytes = () => Deno.statSync(`${path}-wal`).size;
    const store = new SqliteStore({ path });
    await store.open();
    await store.append(ONE);
    const reader = new DatabaseSync(path);
    reader.exec("BEGIN");
    reader.prepare("SELECT count(*) FROM blocks").get();
    const text = "x".repeat(60_000);
    for (let i = 1; walBytes() < 80 << 20; i++) {
      await store.append(
        Array.from(
          { length: 50 },
          (_, n) => block("app", `big${n}`, "n", [{ ts: BASE_TS + i, text }]),
        ),
      );
    }
    reader.exec("COMMIT");
    reader.close();
    const deadline = performance.now() + 15_000;
    while (walBytes() > 64 << 20) {
      assert.ok(performance.now() < deadline, `still ${walBytes()} bytes`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await store.close();
  });
});

async function keepsMessages(path: string): Promise<void> {
  const store = new SqliteStore({ path });
  assert.deepEqual(await store.open(), { lastTs: 0 });
  await store.append(ONE);
  assert.equal((await readAll(store, "app", "ch")).length, 1);
  await store.close();
}

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-sqlite-" });
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Like {@link withFolder}, in a file system of its own. */
async function withMount(
  options: string,
  run: (folder: string, remount: (option: string) => void) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const mount = (...args: string[]) => {
      const { success, stderr } = new Deno.Command(args[0], { args: args.slice(1) }).outputSync();
      assert.ok(success, new TextDecoder().decode(stderr));
    };
    mount("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder);
    try {
      await run(folder, (option) => mount("mount", "-o", `remount,${option}`, folder));
    } finally {
      mount("umount", "-l", folder);
    }
  });
}
