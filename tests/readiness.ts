// Waits for what a server says about itself at /readyz.

import { type Pushd, within } from "./harness.ts";

/** An answer of `/readyz`. */
export interface Readiness {
  status: number;
  text: string;
}

/** The answer of `/readyz` now. */
export async function readiness(pushd: Pushd): Promise<Readiness> {
  const response = await pushd.get("/readyz");
  return { status: response.status, text: await response.text() };
}

/** Polls `/readyz` until it says 200. */
export function untilReady(pushd: Pushd, ms?: number): Promise<Readiness> {
  return until(pushd, true, ms);
}

/** Polls `/readyz` until it does not say 200. */
export function untilUnready(pushd: Pushd, ms?: number): Promise<Readiness> {
  return until(pushd, false, ms);
}

async function until(pushd: Pushd, isReady: boolean, ms?: number): Promise<Readiness> {
  let last: Readiness = await readiness(pushd);
  let isLate = false;
  const polling = (async () => {
    while (!isLate && (last.status === 200) !== isReady) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      last = await readiness(pushd);
    }
    return last;
  })();
  const onLate = () => isLate = true;
  return await within(
    () => `/readyz to be ${isReady ? "well" : "unwell"}; it says ${last.status} ${last.text}`,
    polling,
    { ms, onLate },
  );
}
