// Runs the tests, and ends with one line that counts them: `N passed, N failed, N skipped`.
// deno-lint-ignore-file no-console

/** How the tests of a run ended. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/**
 * Counts the tests in a JUnit report of `deno test`. A step is part of its test and not counted, except
 * one that was skipped: that would otherwise go unseen.
 */
export function countTests(junit: string): Counts {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const cases = [...junit.matchAll(
    /<testcase name="([^"]*)" classname="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g,
  )].map(([, name, file, body]) => ({ name, file, body: body ?? "" }));
  const known = new Set(cases.map(({ file, name }) => `${file} ${name}`));
  for (const { name, file, body } of cases) {
    // Steps are named after their test: "test > step".
    const isStep = name.split(" &gt; ").some((_, i, parts) =>
      i > 0 && known.has(`${file} ${parts.slice(0, i).join(" &gt; ")}`)
    );
    if (/<skipped\b/.test(body)) counts.skipped++;
    else if (isStep) continue;
    else if (/<(failure|error)\b/.test(body)) counts.failed++;
    else counts.passed++;
  }
  return counts;
}

/**
 * What the process returns: what `deno test` did; and with `requireAll` a skipped test is a failure, too,
 * for the machine that is meant to have everything.
 */
export function exitCode(testCode: number, counts: Counts, requireAll: boolean): number {
  if (testCode !== 0) return testCode;
  return counts.failed > 0 || (requireAll && counts.skipped > 0) ? 1 : 0;
}

async function main(args: string[]): Promise<number> {
  const report = await Deno.makeTempFile({ prefix: "pushd-test-", suffix: ".xml" });
  try {
    // Standard output is inherited, so what a test prints is seen at once, in colour.
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", `--junit-path=${report}`, ...args],
    }).spawn().status;
    const counts = countTests(await Deno.readTextFile(report));
    // A module that does not compile or throws while loading has no test that could fail.
    if (code !== 0 && counts.failed === 0) counts.failed = 1;
    const requireAll = Deno.env.get("PUSHD_TEST_REQUIRE") === "all";
    if (requireAll && counts.skipped > 0) {
      console.log("PUSHD_TEST_REQUIRE=all: a skipped test is a failure");
    }
    console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
    return exitCode(code, counts, requireAll);
  } finally {
    await Deno.remove(report);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
