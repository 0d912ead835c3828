// Checks that every import in src/ points the way docs/design.md says, `import type` included.
// deno-lint-ignore-file no-console

import { fileURLToPath, pathToFileURL } from "node:url";

/**
 * What a part of src/ may import beside itself: parts, or one module of a part ("engine/ports" is
 * ports.ts, or a folder of that name). `main` is src/main.ts.
 */
const ARROWS: Record<string, readonly string[]> = {
  main: ["*"],
  program: ["*"],
  pushd: ["*"],
  open_cluster: ["*"],
  open_storage: ["*"],
  dev_cluster: ["*"],
  doors: ["*"],
  reload: ["*"],
  settings: ["*"],
  open_metrics_file: ["*"],
  stats_source: ["*"],
  tools: ["*"],
  start_error: [],
  core: [],
  config: ["core"],
  proto: ["core"],
  engine: ["core", "proto"],
  storage: ["core", "engine/ports", "proto"],
  s2s: ["core", "engine/ports", "proto"],
  serv: ["core", "engine", "proto"],
  web: ["core", "engine", "proto", "serv"],
  stats: ["core", "engine"],
  cli: ["core", "config", "engine/ports", "proto"],
};

/** The part of `deno info --json` that is looked at. */
export interface ModuleGraph {
  modules: {
    specifier: string;
    error?: string;
    dependencies?: { specifier: string; code?: Target; type?: Target }[];
  }[];
}

interface Target {
  specifier?: string;
  error?: string;
}

/** Returns a sentence for every import that is not allowed; `root` is the folder that holds src/, as a URL. */
export function checkArrows(graph: ModuleGraph, root: string): string[] {
  const src = new URL("src/", root).href;
  const faults: string[] = [];
  const edges = new Map<string, string[]>();
  for (const { specifier, error, dependencies = [] } of graph.modules) {
    if (!specifier.startsWith(src)) continue;
    const from = specifier.slice(src.length);
    if (error !== undefined) faults.push(`src/${from}: ${error}`);
    const targets: string[] = [];
    edges.set(from, targets);
    for (const dependency of dependencies) {
      const found = new Set<string>();
      for (const target of [dependency.code, dependency.type]) {
        if (target?.specifier !== undefined) found.add(target.specifier);
        else if (target?.error !== undefined) faults.push(`src/${from}: ${target.error}`);
      }
      for (const target of found) {
        if (target.startsWith(src)) targets.push(target.slice(src.length));
        const fault = judge(from, target, src, root);
        if (fault !== null) faults.push(`src/${from} imports ${dependency.specifier}: ${fault}`);
      }
    }
  }
  faults.push(...findCycles(edges).map((cycle) => `src/ has a cycle: ${cycle.join(" → ")}`));
  return [...new Set(faults)];
}

/** Why the file `from` of src/ must not import `target`, or null when it may. */
function judge(from: string, target: string, src: string, root: string): string | null {
  if (target.startsWith("npm:") || target.startsWith("node:")) return null;
  if (!target.startsWith("file:")) return "only npm:, node: and local files can be built offline";
  if (!target.startsWith(src)) {
    if (target === new URL("deno.json", root).href) return null;
    if (target.startsWith(new URL("tests/", root).href) && from.endsWith("_test.ts")) return null;
    return "src/ may import nothing outside src/ (tests may import from tests/)";
  }
  const importer = partOf(from);
  const imported = target.slice(src.length);
  if (importer === partOf(imported)) return null;
  const allowed = ARROWS[importer];
  if (allowed === undefined) {
    return `no arrow is known for src/${importer}/; see scripts/arrows.ts`;
  }
  const matches = (arrow: string) =>
    arrow === "*" || imported === `${arrow}.ts` || imported.startsWith(`${arrow}/`);
  if (allowed.some(matches)) return null;
  return `${importer} may import ${allowed.length === 0 ? "nothing" : allowed.join(", ")}`;
}

function partOf(path: string): string {
  const slash = path.indexOf("/");
  return slash === -1 ? path.replace(/(_test)?\.ts$/, "") : path.slice(0, slash);
}

/** Cycles between files, each once, as the way round them. */
function findCycles(edges: Map<string, string[]>): string[][] {
  const cycles: string[][] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    if (done.has(file)) return;
    const at = path.indexOf(file);
    if (at !== -1) {
      cycles.push([...path.slice(at), file]);
      return;
    }
    path.push(file);
    for (const next of edges.get(file) ?? []) visit(next);
    path.pop();
    done.add(file);
  };
  for (const file of edges.keys()) visit(file);
  return cycles;
}

/** The module graph of every file in src/, tests included, whether or not main reaches it. */
export async function readGraph(root: string): Promise<ModuleGraph> {
  const files = await listModules(new URL("src/", root).href);
  // One call for all: a module that imports each of them.
  const entry = await Deno.makeTempFile({ prefix: "pushd-arrows-", suffix: ".ts" });
  try {
    await Deno.writeTextFile(
      entry,
      files.map((file) => `import ${JSON.stringify(file)};\n`).join(""),
    );
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--config", fileURLToPath(new URL("deno.json", root)), entry],
      cwd: fileURLToPath(root),
    }).output();
    if (!success) throw new Error(`deno info failed: ${new TextDecoder().decode(stderr)}`);
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(entry);
  }
}

async function listModules(folder: string): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder))) {
    const url = new URL(encodeURIComponent(name), folder).href;
    if (isDirectory) files.push(...await listModules(`${url}/`));
    else if (/\.[cm]?[jt]sx?$/.test(name)) files.push(url);
  }
  return files.sort();
}

if (import.meta.main) {
  const root = Deno.args.length > 0
    ? pathToFileURL(`${await Deno.realPath(Deno.args[0])}/`).href
    : new URL("../", import.meta.url).href;
  const graph = await readGraph(root);
  const faults = checkArrows(graph, root);
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) Deno.exit(1);
  const count = graph.modules.filter(({ specifier }) => specifier.startsWith(`${root}src/`)).length;
  console.log(`${count} modules, every arrow as it should be`);
}
