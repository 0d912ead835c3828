// A turned arrow, a cycle, a module from afar: each is found, in a graph by hand and in files.

import assert from "node:assert/strict";
import { checkArrows, type ModuleGraph, readGraph } from "./arrows.ts";

const ROOT = "file:///project/";

/** A graph from `{ "src/a.ts": ["src/b.ts", "type src/c.ts", "npm:x"] }`. */
function graphOf(imports: Record<string, string[]>): ModuleGraph {
  const url = (target: string) => /^[a-z]+:/.test(target) ? target : ROOT + target;
  return {
    modules: Object.entries(imports).map(([file, targets]) => ({
      specifier: ROOT + file,
      dependencies: targets.map((target) => {
        const specifier = url(target.replace(/^type /, ""));
        return target.startsWith("type ")
          ? { specifier: target, type: { specifier } }
          : { specifier: target, code: { specifier } };
      }),
    })),
  };
}

function faultsOf(from: string, target: string): string[] {
  return checkArrows(graphOf({ [from]: [target] }), ROOT);
}

Deno.test("arrows: what is allowed", () => {
  for (
    const [from, target] of [
      ["src/main.ts", "src/storage/sqlite.ts"],
      ["src/serv/tcp.ts", "src/engine/engine.ts"],
      ["src/serv/commands/pub.ts", "src/serv/connection.ts"],
      ["src/web/websocket.ts", "src/serv/connection.ts"],
      ["src/storage/memory.ts", "type src/engine/ports.ts"],
      ["src/s2s/link.ts", "src/engine/ports/router.ts"],
      ["src/engine/engine.ts", "type src/proto/names.ts"],
      ["src/cli/args.ts", "src/config/schema.ts"],
      ["src/proto/parser.ts", "src/core/clock.ts"],
      ["src/core/clock.ts", "node:os"],
      ["src/core/logger.ts", "npm:/@logtape/logtape@2.4.2"],
      ["src/cli/args.ts", "deno.json"],
      ["src/serv/tcp_test.ts", "tests/require.ts"],
    ]
  ) assert.deepEqual(faultsOf(from, target), [], `${from} → ${target}`);
});

Deno.test("arrows: what is not, `import type` included", () => {
  for (
    const [from, target] of [
      ["src/engine/engine.ts", "src/serv/connection.ts"],
      ["src/engine/engine.ts", "type src/serv/connection.ts"],
      ["src/engine/engine.ts", "src/main.ts"],
      ["src/core/clock.ts", "type src/config/schema.ts"],
      ["src/proto/parser.ts", "type src/engine/ports.ts"],
      ["src/storage/memory.ts", "src/engine/engine.ts"],
      ["src/storage/memory.ts", "src/engine/ports_extra.ts"],
      ["src/s2s/link.ts", "src/storage/memory.ts"],
      ["src/stats/app.ts", "src/proto/names.ts"],
      ["src/stats/app_test.ts", "src/serv/tcp.ts"],
      ["src/serv/tcp.ts", "tests/require.ts"],
      ["src/serv/tcp_test.ts", "scripts/test.ts"],
      ["src/serv/tcp.ts", "https://deno.land/x/a.ts"],
      ["src/serv/tcp.ts", "jsr:@std/net"],
      ["src/newpart/a.ts", "src/core/clock.ts"],
    ]
  ) assert.equal(faultsOf(from, target).length, 1, `${from} → ${target}`);
});

Deno.test("arrows: the fault names the file, the import and what would be right", () => {
  assert.deepEqual(faultsOf("src/storage/memory.ts", "src/serv/tcp.ts"), [
    "src/storage/memory.ts imports src/serv/tcp.ts: storage may import core, engine/ports, proto",
  ]);
});

Deno.test("arrows: a cycle between files of one part is found once, with the way round it", () => {
  const faults = checkArrows(
    graphOf({
      "src/serv/a.ts": ["src/serv/b.ts"],
      "src/serv/b.ts": ["type src/serv/c.ts"],
      "src/serv/c.ts": ["src/serv/a.ts", "src/serv/d.ts"],
      "src/serv/d.ts": [],
    }),
    ROOT,
  );
  assert.deepEqual(faults, ["src/ has a cycle: serv/a.ts → serv/b.ts → serv/c.ts → serv/a.ts"]);
});

/** Writes a small tree and returns its faults. */
async function faultsOfTree(files: Record<string, string>): Promise<string[]> {
  const dir = await Deno.realPath(await Deno.makeTempDir());
  try {
    await Deno.writeTextFile(`${dir}/deno.json`, "{}");
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(`${dir}/${path.slice(0, path.lastIndexOf("/"))}`, { recursive: true });
      await Deno.writeTextFile(`${dir}/${path}`, text);
    }
    const root = `file://${dir}/`;
    return checkArrows(await readGraph(root), root);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("arrows: in real files, also ones that nothing imports", async () => {
  const good = {
    "src/engine/ports.ts": "export interface Store { close(): void }\n",
    "src/storage/memory.ts":
      'import type { Store } from "../engine/ports.ts";\nexport let s: Store;\n',
  };
  assert.deepEqual(await faultsOfTree(good), []);
  const turned = await faultsOfTree({
    ...good,
    "src/engine/ports.ts":
      'import type { s } from "../storage/memory.ts";\nexport interface Store { s: typeof s }\n',
  });
  assert.deepEqual(turned, [
    "src/engine/ports.ts imports ../storage/memory.ts: engine may import core, proto",
    "src/ has a cycle: engine/ports.ts → storage/memory.ts → engine/ports.ts",
  ]);
  const dynamic = await faultsOfTree({
    "src/core/a.ts": 'export const b = () => import("../serv/b.ts");\n',
    "src/serv/b.ts": "export {};\n",
  });
  assert.equal(dynamic.length, 1);
  const missing = await faultsOfTree({ "src/core/a.ts": 'import "./gone.ts";\n' });
  assert.equal(missing.length, 1);
  assert.match(missing[0], /gone\.ts/);
});
