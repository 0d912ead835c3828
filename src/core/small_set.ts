// A set for what mostly has no member, or one: a `Set` takes 160 bytes, or more, before it has any.

/** As a `Set`, in the order of adding; members may be added and deleted while it is walked over. */
export class SmallSet<T extends object> {
  #one: T | null = null;
  #many: Set<T> | null = null;

  get size(): number {
    if (this.#many !== null) return this.#many.size;
    return this.#one === null ? 0 : 1;
  }

  has(member: T): boolean {
    return this.#many !== null ? this.#many.has(member) : this.#one === member;
  }

  add(member: T): void {
    if (this.#many !== null) {
      this.#many.add(member);
    } else if (this.#one === null) {
      this.#one = member;
    } else if (this.#one !== member) {
      this.#many = new Set([this.#one, member]);
      this.#one = null;
    }
  }

  /** Returns whether it was a member. */
  delete(member: T): boolean {
    const many = this.#many;
    if (many !== null) {
      const was = many.delete(member);
      if (many.size === 0) this.#many = null;
      return was;
    }
    if (this.#one !== member) return false;
    this.#one = null;
    return true;
  }

  *[Symbol.iterator](): Generator<T> {
    if (this.#many !== null) yield* this.#many;
    else if (this.#one !== null) yield this.#one;
  }
}
