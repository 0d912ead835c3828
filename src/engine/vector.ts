// How far somebody is in a channel's messages: a timestamp for each node that accepts some.

/**
 * A place in the messages of several nodes, which have no common order: of each node everything up to
 * its timestamp lies before the place, and nothing behind it. It only moves on.
 */
export class Vector {
  #byNode: Map<string, number>;

  /** `floor` stands for every node that is not in `byNode`; microseconds. */
  constructor(readonly floor: number, byNode: Iterable<readonly [string, number]> = []) {
    this.#byNode = new Map(byNode);
  }

  /** Timestamp up to which the node's messages lie before the place. */
  get(node: string): number {
    return this.#byNode.get(node) ?? this.floor;
  }

  /** The smallest of all. */
  get min(): number {
    let min = this.floor;
    for (const ts of this.#byNode.values()) if (ts < min) min = ts;
    return min;
  }

  /** The largest of all. */
  get max(): number {
    return Math.max(this.floor, ...this.#byNode.values());
  }

  /** Moves the place behind the node's messages up to `ts`, unless it is there already. */
  raise(node: string, ts: number): void {
    if (ts > this.get(node)) this.#byNode.set(node, ts);
  }

  copy(): Vector {
    return new Vector(this.floor, this.#byNode);
  }
}

/** The order of nodes within one timestamp: by the bytes of their names, as stores compare them. */
export function compareNodes(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const [unitOfA, unitOfB] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (unitOfA !== unitOfB) return rankOf(unitOfA) - rankOf(unitOfB);
  }
  return a.length - b.length;
}

/** In UTF-8 what takes two units of UTF-16, D800 to DFFF, comes behind everything that takes one. */
function rankOf(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
