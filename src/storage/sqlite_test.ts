// The SQLite driver by the suites for all drivers, and what is its own.

import { historyStoreContract, tokenStoreContract } from "../../tests/store_contract.ts";
import { SqliteStore } from "./sqlite.ts";

historyStoreContract("sqlite", () => openSqlite(), { propertyRuns: 60 });

tokenStoreContract("sqlite", async () => {
  const { store, reopen, close } = await openSqlite();
  await store.open();
  return {
    store: store.tokens,
    reopen: async () => {
      const again = await reopen();
      await again.open();
      return again.tokens;
    },
    close,
  };
});

/** A store in a folder of its own, not opened yet. */
async function openSqlite() {
  const folder = await Deno.makeTempDir({ prefix: "pushd-sqlite-" });
  const path = `${folder}/pushd.db`;
  let store = new SqliteStore({ path });
  return {
    store,
    path,
    reopen: async () => {
      await store.close();
      store = new SqliteStore({ path });
      return store;
    },
    close: async () => {
      await store.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}
