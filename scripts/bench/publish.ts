// Puts the results of a run into docs/performance.md, with plots: deno run -A scripts/bench/publish.ts RUN.json
// deno-lint-ignore-file no-console

import { fileURLToPath } from "node:url";
import { markdownOf } from "./markdown.ts";
import { plotsOf } from "./plots.ts";
import type { Results } from "./results.ts";

const DOCS = fileURLToPath(new URL("../../docs/", import.meta.url));
const BEGIN = "<!-- results: written by scripts/bench/publish.ts -->",
  END = "<!-- end of results -->";

/** The page with the text between its two marks replaced. Throws an Error when one is missing. */
export function withResults(page: string, results: string): string {
  const begin = page.indexOf(BEGIN), end = page.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`the page has no "${BEGIN}" before "${END}"`);
  return `${page.slice(0, begin + BEGIN.length)}\n${results}${page.slice(end)}`;
}

async function publish(path: string): Promise<void> {
  const results = JSON.parse(await Deno.readTextFile(path)) as Results;
  if (results.faults.length > 0) {
    throw new Error(`the run had faults: ${results.faults.join("; ")}`);
  }
  const plots = plotsOf(results);
  for (const [name, svg] of plots) await Deno.writeTextFile(DOCS + name, svg);
  const images = [...plots.keys()].map((name) => `![${name}](${name})`).join("\n\n");
  const page = await Deno.readTextFile(`${DOCS}performance.md`);
  await Deno.writeTextFile(
    `${DOCS}performance.md`,
    withResults(page, `${markdownOf(results)}\n${images}\n`),
  );
}

if (import.meta.main) {
  const [path] = Deno.args;
  if (path === undefined) {
    console.error("deno run -A scripts/bench/publish.ts RUN.json");
    Deno.exit(2);
  }
  await publish(path);
}
