// A pause that somebody else can end.

/** Somebody waits here, and is woken when there is something to do, also when that was before. */
export class Wake {
  #isSet = false;
  #end: (() => void) | undefined;

  set(): void {
    this.#isSet = true;
    this.#end?.();
  }

  /** Until {@link set}, or for `ms`. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#end = undefined;
        this.#isSet = false;
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#end = end;
      if (this.#isSet) end();
    });
  }
}
