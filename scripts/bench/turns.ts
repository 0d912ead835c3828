// How runs follow each other: in turns, and again where other work disturbed one.

import { MAX_OTHER_CPU } from "./report.ts";

/** Whatever disturbed a run is given some time to end. */
const RETRY_AFTER_MS = 1000;

/** Of several tries the least disturbed: chosen by what other processes did, never by the figure. */
export async function leastDisturbed<T extends { other_cpu: number }>(
  retries: number,
  run: () => Promise<T>,
): Promise<T> {
  let best = await run();
  for (let i = 0; i < retries && best.other_cpu > MAX_OTHER_CPU; i++) {
    await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER_MS));
    const again = await run();
    if (again.other_cpu < best.other_cpu) best = again;
  }
  return best;
}

/** Every round takes the contenders in turns, so that a disturbance does not hit one of them alone. */
export async function inTurns<C, T>(
  contenders: readonly C[],
  rounds: number,
  run: (contender: C, round: number) => Promise<T>,
): Promise<Map<C, T[]>> {
  const runs = new Map(contenders.map((contender) => [contender, [] as T[]]));
  for (let round = 1; round <= rounds; round++) {
    for (const contender of contenders) runs.get(contender)?.push(await run(contender, round));
  }
  return runs;
}
