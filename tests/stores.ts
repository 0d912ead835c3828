// The stores that black-box tests run on: what to put into a server's configuration, and what it takes.

import { dropDatabase, freshDatabase, requireMongo, startMongo } from "./mongo_server.ts";
import type { Requirement } from "./require.ts";

/** A store's place, for one or several servers one after the other. */
export interface StorePlace extends AsyncDisposable {
  /** Keys of the configuration. */
  readonly config: Record<string, unknown>;
}

/** A kind of store. */
export interface StoreKind extends Requirement {
  readonly name: "memory" | "sqlite" | "mongodb";
  /** Makes an empty one. */
  open(): Promise<StorePlace>;
}

async function openSqlite(): Promise<StorePlace> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-store-" });
  return {
    config: { msg_storage: "sqlite", sqlite: { path: `${folder}/pushd.db` } },
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

async function openMongo(): Promise<StorePlace> {
  const server = await startMongo();
  const database = freshDatabase();
  return {
    // FerretDB reads all of a collection to answer, where MongoDB uses an index.
    config: {
      msg_storage: "mongodb",
      mongodb: { url: server.url, database, operation_timeout: "1m" },
    },
    async [Symbol.asyncDispose]() {
      await dropDatabase(server.url, database);
      await server[Symbol.asyncDispose]();
    },
  };
}

const always: Requirement = { ignore: false, reason: "" };

/** Every kind, those that last longer than the server last. */
export const STORES: readonly StoreKind[] = [
  {
    ...always,
    name: "memory",
    open: () =>
      Promise.resolve({
        config: { msg_storage: "memory", max_cache_msgs_every_channel: 10_000_000 },
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  },
  { ...always, name: "sqlite", open: openSqlite },
  { ...await requireMongo(), name: "mongodb", open: openMongo },
];

/** Those that outlive the server. */
export const LASTING: readonly StoreKind[] = STORES.filter(({ name }) => name !== "memory");
