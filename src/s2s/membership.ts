// Who belongs to the cluster, as far as a directory knows: the seam to ZooKeeper and to the static list.

/** A node as it describes itself to the others. */
export interface MemberInfo {
  /** Its node id. */
  readonly id: string;
  /** Grows with each start of the node, so that a node that came back is known from the one that left. */
  readonly incarnation: string;
  /** What peers dial: `host:port`. */
  readonly s2sAddr: string;
  /** Where clients come in. */
  readonly clientAddr: string;
  readonly version: string;
}

/** An address to dial, and who is expected there. */
export interface Member {
  /** `host:port`. */
  readonly s2sAddr: string;
  /** Undefined where only the address is known. */
  readonly info?: MemberInfo;
}

/** What a membership tells its owner. */
export interface MembershipEvents {
  /** Everybody who is known now, ourselves included where the directory has us. */
  onMembers(members: readonly Member[]): void;
}

/** A directory of nodes. */
export interface Membership {
  /** For the log: `ZooKeeper 10.0.0.1:2181`. */
  readonly description: string;
  /**
   * Whether the directory works now; while it does not, who was known stays known. For `/readyz`,
   * where it is named `etc`.
   */
  readonly isUp: boolean;
  /** Whether a node that it does not name any more is gone. */
  readonly isAuthority: boolean;
  /** Begins to look, and to show `self` where the directory wants it; keeps on trying by itself. Called once. */
  start(self: MemberInfo, events: MembershipEvents): void;
  /** Takes ourselves out and lets go; at most `timeoutMs`. Nothing is told any more. Idempotent. */
  stop(timeoutMs: number): Promise<void>;
}
