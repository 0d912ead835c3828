// Counts moments, so that of two events it is known which came first.

let last = 0;

/** A moment behind every one before it, in this process. */
export function nextMoment(): number {
  return ++last;
}
