// Our own znode: there, and of our own session, whatever happens to it.

import type { Logger } from "../core/logger.ts";
import { type ZooKeeperClient, ZooKeeperError } from "./zookeeper_client.ts";

/** Of a client, what is needed to register. */
export type Registrar = Pick<
  ZooKeeperClient,
  "sessionId" | "sessionTimeoutMs" | "create" | "exists" | "replace"
>;

/** Of our own sessions, how many are remembered. */
const MAX_SESSIONS = 16;
/** How often the state may change under our hands before it is left for the next round. */
const MAX_STEPS = 6;

/**
 * - "held": the znode is ours.
 * - "restored": it is ours again; somebody had removed it.
 * - "waiting": there is one of another session, whose end is waited for.
 */
export type OwnState = "held" | "restored" | "waiting";

/** Keeps an ephemeral znode registered. */
export class OwnZnode {
  readonly path: string;
  readonly #data: Uint8Array;
  readonly #log: Logger;
  /** Sessions that this process has had: what is left of them may be replaced at once. */
  readonly #sessions = new Set<string>();
  /** The session in which the znode was ours. */
  #heldIn = "";
  /** Whose end is waited for, since when, and whether it was complained of. */
  #waiting: { owner: string; sinceMs: number; isSaid: boolean } | undefined;

  constructor(path: string, data: Uint8Array, logger: Logger) {
    this.path = path;
    this.#data = data;
    this.#log = logger;
  }

  /**
   * Registers where that is to do. "Ours" is what ends with our session: a znode of the same name may be left
   * of a run before, and vanish later. Leaves a watch on the znode or on its absence. Rejects with a
   * ZooKeeperError.
   */
  async ensure(client: Registrar): Promise<OwnState> {
    const session = client.sessionId;
    this.#remember(session);
    let isMissed = false;
    for (let step = 0; step < MAX_STEPS; step++) {
      const stat = await client.exists(this.path, true);
      if (stat?.owner === session) return this.#hold(session, isMissed);
      try {
        if (stat === null) {
          isMissed ||= this.#heldIn === session;
          await client.create(this.path, this.#data, "ephemeral");
        } else if (this.#sessions.has(stat.owner)) {
          await client.replace(this.path, this.#data);
        } else {
          this.#wait(stat.owner, client.sessionTimeoutMs);
          return "waiting";
        }
      } catch (error) {
        if (!(error instanceof ZooKeeperError)) throw error;
        if (error.code === "no-node") await this.#createParents(client);
        // Where it is there meanwhile, the next look at it tells whose it is.
        else if (error.code !== "node-exists") throw error;
      }
    }
    throw new ZooKeeperError("other", `${this.path} comes and goes`);
  }

  #hold(session: string, isMissed: boolean): OwnState {
    if (isMissed) {
      this.#log.warn("our znode was gone although the session is not; it is there again", {
        path: this.path,
      });
    } else if (this.#heldIn !== session) {
      this.#log.info("registered in ZooKeeper", { path: this.path, session: `0x${session}` });
    }
    this.#heldIn = session;
    this.#waiting = undefined;
    return isMissed ? "restored" : "held";
  }

  #wait(owner: string, timeoutMs: number): void {
    const now = performance.now();
    if (this.#waiting?.owner !== owner) {
      this.#waiting = { owner, sinceMs: now, isSaid: false };
      this.#log.info("waiting for the end of another session with the znode of this node_id", {
        path: this.path,
        session: `0x${owner}`,
      });
    } else if (!this.#waiting.isSaid && now - this.#waiting.sinceMs > 2 * timeoutMs) {
      this.#waiting.isSaid = true;
      this.#log.warn(
        "another session keeps the znode of this node_id; remove it, or the other node",
        {
          path: this.path,
          session: `0x${owner}`,
        },
      );
    }
  }

  async #createParents(client: Registrar): Promise<void> {
    const elements = this.path.split("/").slice(1, -1);
    for (let i = 1; i <= elements.length; i++) {
      try {
        await client.create(`/${elements.slice(0, i).join("/")}`, new Uint8Array(), "persistent");
      } catch (error) {
        // The others begin with the same.
        if (!(error instanceof ZooKeeperError && error.code === "node-exists")) throw error;
      }
    }
  }

  #remember(session: string): void {
    this.#sessions.delete(session);
    this.#sessions.add(session);
    const [oldest] = this.#sessions;
    if (this.#sessions.size > MAX_SESSIONS) this.#sessions.delete(oldest);
  }
}
