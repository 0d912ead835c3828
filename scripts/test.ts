// Runs the tests, and ends with one line that counts them: `N passed, N failed, N skipped`.
// deno-lint-ignore-file no-console

/** How the tests of a run ended. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** One test or step of a JUnit report. */
interface TestCase {
  file: string;
  name: string;
  /** What the report says of it, as XML: a failure, that it was skipped, or nothing. */
  body: string;
  isStep: boolean;
}

function readCases(junit: string): TestCase[] {
  const cases = [...junit.matchAll(
    /<testcase name="([^"]*)" classname="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g,
  )].map(([, name, file, body]) => ({ name, file, body: body ?? "" }));
  const known = new Set(cases.map(({ file, name }) => `${file} ${name}`));
  return cases.map((test) => ({
    ...test,
    // Steps are named after their test: "test > step".
    isStep: test.name.split(" &gt; ").some((_, i, parts) =>
      i > 0 && known.has(`${test.file} ${parts.slice(0, i).join(" &gt; ")}`)
    ),
  }));
}

/**
 * Counts the tests in a JUnit report of `deno test`. A step is part of its test and not counted, except
 * one that was skipped: that would otherwise go unseen.
 */
export function countTests(junit: string): Counts {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { body, isStep } of readCases(junit)) {
    if (/<skipped\b/.test(body)) counts.skipped++;
    else if (isStep) continue;
    else if (/<(failure|error)\b/.test(body)) counts.failed++;
    else counts.passed++;
  }
  return counts;
}

/**
 * Says of every test and step that failed where it is and why, as lines of text. They are printed behind
 * everything else: of a long run often no more is kept than its end.
 */
export function listFailures(junit: string): string[] {
  return readCases(junit).flatMap(({ file, name, body }) => {
    const failure = /<(failure|error)\b[^>]*?(?:\/>|>([\s\S]*?)<\/\1>)/.exec(body);
    return failure === null ? [] : [unescapeXml(`${file}: ${name}\n${failure[2] ?? ""}`).trimEnd()];
  });
}

const XML_ENTITIES: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function unescapeXml(text: string): string {
  return text.replace(/&(?:(lt|gt|quot|apos|amp)|#(\d+)|#x([0-9a-f]+));/gi, (_, name, dec, hex) => {
    return name ? XML_ENTITIES[name] : String.fromCodePoint(dec ? +dec : parseInt(hex, 16));
  });
}

/**
 * What the process returns: what `deno test` did; and with `requireAll` a skipped test is a failure, too,
 * for the machine that is meant to have everything.
 */
export function exitCode(testCode: number, counts: Counts, requireAll: boolean): number {
  if (testCode !== 0) return testCode;
  return counts.failed > 0 || (requireAll && counts.skipped > 0) ? 1 : 0;
}

/**
 * Files whose tests spend their time waiting for deadlines and for other programs, and measure nothing
 * that is shorter than seconds: they run side by side, and the others, one after the other, behind them.
 */
const SIDE_BY_SIDE = [
  "scripts/bench/asker_test.ts",
  "scripts/bench/loadgen_test.ts",
  "scripts/bench/pairs_test.ts",
  "scripts/bench/smoke_test.ts",
  "src/config/file_watch_test.ts",
  "src/s2s/tls_wire_test.ts",
  "src/storage/sqlite_faults_test.ts",
  "tests/apps_test.ts",
  "tests/client_tools_test.ts",
  "tests/cluster_life_test.ts",
  "tests/cluster_mongo_test.ts",
  "tests/config_test.ts",
  "tests/history_crash_test.ts",
  "tests/history_file_test.ts",
  "tests/history_mongo_faults_test.ts",
  "tests/history_retention_test.ts",
  "tests/history_seam_test.ts",
  "tests/metrics_log_test.ts",
  "tests/mongodb_faults_test.ts",
  "tests/mongodb_test.ts",
  "tests/profiling_test.ts",
  "tests/prometheus_test.ts",
  "tests/proxy_test.ts",
  "tests/reload_test.ts",
  "tests/storage_tool_test.ts",
  "tests/tls_test.ts",
  "tests/top_test.ts",
  "tests/zookeeper_test.ts",
];
/** More than the cores of a small machine: most of them wait. */
const JOBS = 3;

/** What is given to `deno test`, run after run. */
async function runsOf(args: string[]): Promise<{ args: string[]; jobs: number }[]> {
  // Whoever names files or options means one plain run.
  if (args.length > 0) return [{ args, jobs: 1 }];
  const there = await Promise.all(
    SIDE_BY_SIDE.map((path) => Deno.lstat(path).then(() => true, () => false)),
  );
  const missing = SIDE_BY_SIDE.filter((_, i) => !there[i]);
  if (missing.length > 0) throw new Error(`scripts/test.ts names what is not there: ${missing}`);
  return [
    // The types are checked by `deno task ok`, in half a minute that is not spent twice.
    { args: ["--no-check", "--parallel", ...SIDE_BY_SIDE], jobs: JOBS },
    { args: ["--no-check", `--ignore=${SIDE_BY_SIDE.join(",")}`], jobs: 1 },
  ];
}

interface Outcome {
  code: number;
  counts: Counts;
  failures: string[];
}

async function runTests(args: string[], jobs: number): Promise<Outcome> {
  const report = await Deno.makeTempFile({ prefix: "pushd-test-", suffix: ".xml" });
  try {
    // Standard output is inherited, so what a test prints is seen at once, in colour.
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", `--junit-path=${report}`, ...args],
      env: { DENO_JOBS: `${jobs}` },
    }).spawn().status;
    const junit = await Deno.readTextFile(report);
    const counts = countTests(junit);
    const failures = listFailures(junit);
    // A module that does not compile or throws while loading has no test that could fail.
    if (code !== 0 && counts.failed === 0) {
      counts.failed = 1;
      failures.push(`deno test ended with ${code} and no failed test: see above`);
    }
    return { code, counts, failures };
  } finally {
    await Deno.remove(report);
  }
}

async function main(args: string[]): Promise<number> {
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  let failure = 0;
  const failed: string[] = [];
  for (const run of await runsOf(args)) {
    const { code, counts, failures } = await runTests(run.args, run.jobs);
    failure ||= code;
    failed.push(...failures);
    for (const key of ["passed", "failed", "skipped"] as const) total[key] += counts[key];
  }
  for (const text of failed) console.log(`\nfailed: ${text}`);
  if (failed.length > 0) console.log();
  const requireAll = Deno.env.get("PUSHD_TEST_REQUIRE") === "all";
  if (requireAll && total.skipped > 0) {
    console.log("PUSHD_TEST_REQUIRE=all: a skipped test is a failure");
  }
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return exitCode(failure, total, requireAll);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
