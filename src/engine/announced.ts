// A subscription that the other nodes are being told of: the channel has a follower, who gets nothing yet.

import type { SmallSet } from "../core/small_set.ts";
import type { Subscription } from "./channel.ts";
import type { CatchUp } from "./replay.ts";

/** Stands among the replays of its connection until it is ended, here or with the connection. */
export class Announced implements CatchUp {
  /** Until the other nodes know of it; null when there is nothing to wait for. */
  ready: Promise<void> | null = null;

  constructor(readonly subscription: Subscription, readonly siblings: SmallSet<CatchUp>) {
    subscription.channel.catchingUp++;
    siblings.add(this);
  }

  /** Returns false when the subscription has ended meanwhile. */
  end(): boolean {
    if (!this.siblings.has(this)) return false;
    this.stop();
    return true;
  }

  /** It has nothing to deliver. */
  pump(): void {}

  stop(): void {
    if (!this.siblings.delete(this)) return;
    this.subscription.channel.catchingUp--;
  }
}
