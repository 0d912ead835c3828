// The stores in MongoDB: what every store keeps to.

import { MongoConnection, MongoStore, MongoTokenStore } from "../src/storage/mongodb.ts";
import { dropDatabase, freshDatabase, requireMongo, startMongo } from "./mongo_server.ts";
import { historyStoreContract, tokenStoreContract } from "./store_contract.ts";

const mongo = await requireMongo();
const PATIENCE_MS = 10_000;

if (mongo.ignore) {
  Deno.test({ name: `mongodb${mongo.reason}`, ignore: true, fn: () => {} });
} else {
  const server = await startMongo();
  Deno.test.afterAll(async () => await server[Symbol.asyncDispose]());
  const connection = (database: string) =>
    new MongoConnection({
      url: server.url,
      database,
      node: "n1",
      connTimeoutMs: PATIENCE_MS,
      syncTimeoutMs: PATIENCE_MS,
      operationTimeoutMs: PATIENCE_MS,
    });

  historyStoreContract("mongodb", () => {
    const database = freshDatabase();
    let store = new MongoStore(connection(database));
    return Promise.resolve({
      store,
      reopen: async () => {
        await store.close();
        store = new MongoStore(connection(database));
        return store;
      },
      close: async () => {
        await store.close();
        await dropDatabase(server.url, database);
      },
    });
  }, { propertyRuns: 10 });

  tokenStoreContract("mongodb", async () => {
    const database = freshDatabase();
    const open = async () => {
      const opened = connection(database);
      await new MongoStore(opened).open();
      return opened;
    };
    let opened = await open();
    return {
      store: new MongoTokenStore(opened),
      reopen: async () => {
        await opened.close();
        opened = await open();
        return new MongoTokenStore(opened);
      },
      close: async () => {
        await opened.close();
        await dropDatabase(server.url, database);
      },
    };
  });
}
