// Tokens in MongoDB: a document for each that is not used, and one that takes it deletes it.

import type { FoundToken, TokenStore } from "../engine/ports/token_store.ts";
import type { MongoConnection } from "./mongodb_connection.ts";
import { tokensOf } from "./mongodb_schema.ts";

/** How long the number of an application's tokens is taken for right, ms. */
const COUNT_TTL_MS = 2000;

/**
 * Tokens in the collection `tokens` of a connection that the history store opens and closes. The server
 * deletes the expired ones within a minute or so; until then they are looked at as if it had.
 */
export class MongoTokenStore implements TokenStore {
  #connection: MongoConnection;
  /** Unused tokens of each application, as counted last, and those put since. */
  #counts = new Map<string, { count: number; untilMs: number }>();

  constructor(connection: MongoConnection) {
    this.#connection = connection;
  }

  async put(
    { hash, app, user, ttlMs }: { hash: string; app: string; user: string; ttlMs: number },
    maxUnused: number,
  ): Promise<boolean> {
    const count = await this.#count(app, maxUnused);
    if (count.count >= maxUnused) return false;
    count.count++;
    const expires = new Date(Date.now() + ttlMs);
    // Not an insert, so that the driver may send it twice.
    await this.#connection.run(({ db }) =>
      tokensOf(db).replaceOne({ _id: hash }, { app, user, expires }, { upsert: true })
    );
    return true;
  }

  async find(hash: string): Promise<FoundToken | undefined> {
    const doc = await this.#connection.run(({ db, signal }) =>
      tokensOf(db).findOne({ _id: hash, expires: { $gt: new Date() } }, { signal })
    );
    return doc === null ? undefined : { app: doc.app, user: doc.user };
  }

  async take(hash: string): Promise<boolean> {
    // Whose deletion it was says the number; the document itself is of no use any more.
    const { deletedCount } = await this.#connection.run(({ db }) =>
      tokensOf(db).deleteOne({ _id: hash, expires: { $gt: new Date() } })
    );
    return deletedCount === 1;
  }

  async #count(app: string, maxUnused: number): Promise<{ count: number }> {
    const now = performance.now();
    const known = this.#counts.get(app);
    if (known !== undefined && now < known.untilMs) return known;
    for (const [name, { untilMs }] of this.#counts) {
      if (untilMs <= now) this.#counts.delete(name);
    }
    const count = await this.#connection.run(({ db, signal }) =>
      tokensOf(db).countDocuments(
        { app, expires: { $gt: new Date() } },
        { limit: maxUnused, signal },
      )
    );
    const counted = { count, untilMs: now + COUNT_TTL_MS };
    this.#counts.set(app, counted);
    return counted;
  }
}
