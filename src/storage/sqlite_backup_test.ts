// Backups of a file that a store is writing to.

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { BASE_TS, block, readAll } from "../../tests/store_model.ts";
import { StoreError } from "../engine/ports/history_store.ts";
import { backupSqlite, copyRows } from "./sqlite_backup.ts";
import { SqliteStore } from "./sqlite.ts";

Deno.test("a backup of a file that is written to is whole and opens", async () => {
  await withFolder(async (folder) => {
    const store = new SqliteStore({ path: `${folder}/a.db` });
    await store.open();
    const append = (i: number) => {
      const text = `${i}`.padEnd(20_000);
      return store.append([
        block("app", "one", "n", [{ ts: BASE_TS + i, text }]),
        block("app", "two", "n", [{ ts: BASE_TS + i, text }]),
      ]);
    };
    for (let i = 0; i < 200; i++) await append(i);
    // In a process of its own, as the command is: so the store goes on writing while it copies.
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        `const { backupSqlite } = await import(${
          JSON.stringify(import.meta.resolve("./sqlite_backup.ts"))
        });
         let steps = 0;
         await backupSqlite(${JSON.stringify(`${folder}/a.db`)}, ${
          JSON.stringify(`${folder}/b.db`)
        }, () => steps++);
         if (steps === 0) throw new Error("no progress");`,
      ],
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    let ended = false;
    const output = child.output().finally(() => ended = true);
    let written = 200;
    while (!ended) await append(written++);
    const { success, stderr } = await output;
    assert.ok(success, new TextDecoder().decode(stderr));
    await append(written);
    await store.close();
    const copy = new SqliteStore({ path: `${folder}/b.db` });
    await copy.open();
    const one = await readAll(copy, "app", "one");
    assert.ok(one.length >= 200 && one.length <= written, `${one.length} of ${written}`);
    assert.deepEqual(await readAll(copy, "app", "two"), one, "both channels at the same moment");
    await copy.close();
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), [
      "a.db",
      "b.db",
    ]);
  });
});

Deno.test("a copy by rows, as on Deno 2.4, is the same store", async () => {
  await withFolder(async (folder) => {
    const store = new SqliteStore({ path: `${folder}/a.db` });
    await store.open();
    const lines = [{ ts: BASE_TS, text: "x" }, { ts: BASE_TS + 1, text: "ü\u0000€" }];
    for (let i = 0; i < 20; i++) await store.append([block("app", `ch${i}`, "n", lines)]);
    const all = await readAll(store, "app", "ch7");
    await store.close();
    const db = new DatabaseSync(`${folder}/a.db`, { readOnly: true });
    db.exec("BEGIN");
    copyRows(db, `${folder}/b.db`, undefined);
    const dump = (file: DatabaseSync) => {
      const tables = file.prepare("SELECT name, sql FROM sqlite_master ORDER BY name").all();
      return tables.map(({ name, sql }) => {
        const isTable = sql !== null && `${sql}`.startsWith("CREATE TABLE");
        return [name, sql, isTable ? file.prepare(`SELECT * FROM "${name}"`).all() : null];
      });
    };
    const copy = new DatabaseSync(`${folder}/b.db`, { readOnly: true });
    assert.deepEqual(dump(copy), dump(db));
    copy.close();
    db.close();
    const opened = new SqliteStore({ path: `${folder}/b.db` });
    await opened.open();
    assert.deepEqual(await readAll(opened, "app", "ch7"), all);
    await opened.close();
  });
});

Deno.test("a backup in the process of the store leaves its locks alone", async () => {
  await withFolder(async (folder) => {
    const store = new SqliteStore({ path: `${folder}/a.db` });
    await store.open();
    await store.append([block("app", "one", "n", [{ ts: BASE_TS, text: "x" }])]);
    const steps: string[] = [];
    await backupSqlite(
      `${folder}/a.db`,
      `${folder}/b.db`,
      (done) => steps.push(done),
    );
    await store.append([block("app", "one", "n", [{ ts: BASE_TS + 1, text: "y" }])]);
    assert.equal((await readAll(store, "app", "one")).length, 2);
    await store.close();
  });
});

Deno.test("what cannot be backed up is refused, and nothing is left behind", async () => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(
      `${folder}/text`,
      "just text, and more than a header of it ".repeat(20),
    );
    await Deno.writeTextFile(`${folder}/empty`, "");
    const foreign = new DatabaseSync(`${folder}/foreign.db`);
    foreign.exec("CREATE TABLE t (a)");
    foreign.close();
    const store = new SqliteStore({ path: `${folder}/a.db` });
    await store.open();
    await store.close();
    // SQLite may leave the two files it works with beside a source that nobody else has open.
    const names = () =>
      [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
        !/-(wal|shm)$/.test(name)
      )
        .sort();
    const before = names();
    const refused = async (from: string, to: string, message: RegExp) =>
      await assert.rejects(backupSqlite(`${folder}/${from}`, `${folder}/${to}`), (error) => {
        assert.ok(error instanceof StoreError, String(error));
        assert.match(error.message, message);
        assert.ok(error.message.includes(folder));
        return true;
      });
    await refused("missing.db", "b.db", /no such file/);
    await refused(".", "b.db", /no such file/);
    await refused("text", "b.db", /not an SQLite database/);
    await refused("empty", "b.db", /not the database of a pushd/);
    await refused("foreign.db", "b.db", /not the database of a pushd/);
    await refused("a.db", "text", /exists already/);
    await refused("a.db", "a.db", /its own source/);
    await refused("a.db", "nowhere/b.db", /make its folder|cannot be opened/);
    assert.deepEqual(names(), before);
  });
});

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-backup-" });
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
