// Deadlines for tests: what does not happen in time fails and says what was waited for.

/** How long a test waits for something that should happen at once, on a busy machine, ms. */
export const PATIENCE_MS = 15_000;

/** What `promise` gives, or an error that says what was waited for. `onLate` runs before that error. */
export async function within<T>(
  what: () => string,
  promise: Promise<T>,
  { ms = PATIENCE_MS, onLate = () => {} }: { ms?: number; onLate?: () => void } = {},
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      onLate();
      reject(new Error(`waited ${ms} ms for ${what()}`));
    }, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
    // Where the deadline won, `onLate` made it fail; nobody is interested any more.
    promise.catch(() => {});
  }
}
