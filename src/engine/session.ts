// The engine's view of one connection: who it is, in which application, and what it follows.

import type { Form } from "../proto/encoder.ts";
import type { App } from "./channel_table.ts";
import type { Subscriber } from "./ports/subscriber.ts";
import type { CatchUp } from "./replay.ts";
import { SmallSet } from "../core/small_set.ts";
import { Subscriptions } from "./subscriptions.ts";

/** State of one connection. The engine changes its subscriptions, the auth commands its identity. */
export class Session {
  /** The authenticated user, if any. */
  user: string | undefined = undefined;
  /** Whether `auth` or `auth_server` has succeeded. */
  authenticated = false;
  /** Whether this is an application's server (`auth_server`). */
  isAppServer = false;
  /** The form of deliveries; see `hello`. */
  form: Form = "text";
  readonly subscriptions: Subscriptions = new Subscriptions();
  /** Replays that have not caught up yet. */
  readonly replays: SmallSet<CatchUp> = new SmallSet();
  closed = false;

  constructor(
    public app: App,
    readonly subscriber: Subscriber,
    /** The client's address, without its port. */
    readonly address: string,
  ) {}
}
