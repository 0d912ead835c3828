// How far a peer's wall clock is from ours, from heartbeats.

/** The last measurements that are looked at. */
const SAMPLES = 8;

/**
 * Of the last measurements the one with the shortest round trip counts: a heartbeat that waited, in a
 * queue or because a node was frozen, says little. No measurement is off by more than half its round trip.
 */
export class PeerClock {
  /** The peer's clock less ours, ms; undefined until it is known. */
  skewMs: number | undefined = undefined;
  #samples: { skewMs: number; rttMs: number }[] = [];
  #isApart = false;

  add(skewMs: number, rttMs: number): void {
    this.#samples.push({ skewMs, rttMs });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    const best = this.#samples.reduce((a, b) => b.rttMs <= a.rttMs ? b : a);
    this.skewMs = best.skewMs;
  }

  /** Whether the clocks have just been found to be further apart than that for certain, or close again. */
  judge(maxSkewMs: number): "apart" | "close" | "as before" {
    const last = this.#samples.at(-1);
    if (last === undefined) return "as before";
    const leastMs = Math.abs(last.skewMs) - last.rttMs / 2;
    if (!this.#isApart && leastMs > maxSkewMs) {
      this.#isApart = true;
      return "apart";
    }
    if (this.#isApart && Math.abs(last.skewMs) <= maxSkewMs) {
      this.#isApart = false;
      return "close";
    }
    return "as before";
  }
}
