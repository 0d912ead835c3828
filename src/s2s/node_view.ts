// What /s/nodes shows of each node.

import type { Dialer } from "./dialer.ts";
import type { HeardNode } from "./heard_of.ts";
import type { Peer } from "./peer.ts";

/** A node as it is shown. */
export interface NodeView {
  /** Null while only its address is known. */
  readonly id: string | null;
  readonly self: boolean;
  readonly state: "up" | "connecting" | "down";
  readonly s2s_addr: string | null;
  readonly client_addr: string | null;
  readonly version: string | null;
  /** Since when it is in this state, ISO 8601; null where that is not known. */
  readonly since: string | null;
  readonly rtt_ms: number | null;
  /** Its wall clock less ours. */
  readonly skew_ms: number | null;
  /** What waits for it, or for its acknowledgement, in bytes. */
  readonly replay_bytes: number;
  /** Messages that it will not get any more. */
  readonly lost: number;
}

/** Ourselves, since `startedMs` (milliseconds since the epoch). */
export function viewOfSelf(
  self: { id: string; s2sAddr: string | null; clientAddr: string; software: string },
  startedMs: number,
): NodeView {
  return {
    id: self.id,
    self: true,
    state: "up",
    s2s_addr: self.s2sAddr,
    client_addr: self.clientAddr,
    version: self.software,
    since: new Date(startedMs).toISOString(),
    rtt_ms: null,
    skew_ms: null,
    replay_bytes: 0,
    lost: 0,
  };
}

/** A node that is linked, or was; `dialer` is what looks for it. */
export function viewOfPeer(peer: Peer, dialer: Dialer | undefined): NodeView {
  const { id, hello, link, outbox, clock, sinceMs } = peer;
  return {
    id,
    self: false,
    state: link !== null ? "up" : stateOf(dialer),
    s2s_addr: hello.s2s_addr,
    client_addr: hello.client_addr,
    version: hello.software,
    since: new Date(sinceMs).toISOString(),
    rtt_ms: rounded(link?.rttMs),
    skew_ms: rounded(clock.skewMs),
    replay_bytes: outbox.waitingBytes,
    lost: outbox.lost,
  };
}

/** Somebody who was never linked. */
export function viewOfAddress(dialer: Dialer): NodeView {
  return {
    id: dialer.id ?? null,
    self: false,
    state: stateOf(dialer),
    s2s_addr: dialer.addr,
    client_addr: null,
    version: null,
    since: null,
    rtt_ms: null,
    skew_ms: null,
    replay_bytes: 0,
    lost: 0,
  };
}

/** Somebody of whom peers tell, and who is linked to nobody. */
export function viewOfHeard({ id, s2s_addr, client_addr, version }: HeardNode): NodeView {
  return {
    id,
    self: false,
    state: "down",
    s2s_addr,
    client_addr,
    version,
    since: null,
    rtt_ms: null,
    skew_ms: null,
    replay_bytes: 0,
    lost: 0,
  };
}

function stateOf(dialer: Dialer | undefined): NodeView["state"] {
  return dialer !== undefined && dialer.failures === 0 ? "connecting" : "down";
}

function rounded(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms * 100) / 100;
}
