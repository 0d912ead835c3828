// The one gate before a change goes in: every check, each with its name, and at the end which failed.
// deno-lint-ignore-file no-console

interface Step {
  name: string;
  /** Arguments of `deno`. */
  args: string[];
  /** Skipped when it returns false. */
  when?: () => Promise<boolean>;
}

const STEPS: Step[] = [
  { name: "fmt", args: ["fmt", "--check"] },
  { name: "lint", args: ["lint"] },
  { name: "arrows", args: ["run", "-A", "scripts/arrows.ts"] },
  {
    name: "docs",
    args: ["run", "-A", "scripts/gen_config_docs.ts", "--check"],
    when: () => exists("scripts/gen_config_docs.ts"),
  },
  { name: "lock", args: ["run", "-A", "scripts/lock.ts"] },
  { name: "check", args: ["check", "src", "scripts", "tests"] },
  // Has the types of a browser, which the others must not see.
  {
    name: "page",
    args: ["check", "--no-lock", "--config=src/stats/dashboard/check.json", "src/stats/dashboard"],
  },
  { name: "test", args: ["run", "-A", "scripts/test.ts"] },
];

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

/** `--without NAME` leaves a step out, for who runs it by itself. */
function withoutOf(args: string[]): string | undefined {
  if (args.length === 0) return undefined;
  const [option, name] = args;
  if (option === "--without" && STEPS.some((step) => step.name === name)) return name;
  console.error(`deno task ok [--without ${STEPS.map((step) => step.name).join("|")}]`);
  Deno.exit(2);
}

Deno.chdir(new URL("../", import.meta.url));
const results: string[] = [];
const failed: string[] = [];
const without = withoutOf(Deno.args);
for (const { name, args, when } of STEPS) {
  if (name === without) continue;
  if (when !== undefined && !await when()) continue;
  console.log(`\n== ${name}: deno ${args.join(" ")}`);
  const startMs = performance.now();
  const { success } = await new Deno.Command(Deno.execPath(), { args }).spawn().status;
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  results.push(`${success ? "ok    " : "FAILED"}  ${name.padEnd(6)}  ${seconds} s`);
  if (!success) failed.push(name);
}
console.log(`\n${results.join("\n")}`);
console.log(failed.length === 0 ? "\neverything is ok" : `\nnot ok: ${failed.join(", ")}`);
if (failed.length > 0) Deno.exit(1);
