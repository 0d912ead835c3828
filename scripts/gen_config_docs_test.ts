// Tests that the generated documentation is up to date, and that the sample is a configuration.

import assert from "node:assert/strict";
import { loadConfig } from "../src/config/load.ts";
import { renderSample } from "../src/config/sample.ts";
import { defaultConfig, KEY_NAMES } from "../src/config/schema.ts";
import { drifted, renderMarkdown } from "./gen_config_docs.ts";

Deno.test("docs/configuration.md and etc/pushd.cf.sample are what the key table says", async () => {
  const stale = await drifted(new URL("../", import.meta.url));
  assert.deepEqual(stale, [], "run deno run -A scripts/gen_config_docs.ts");
});

Deno.test("the sample sets nothing, and with every # taken away the defaults", () => {
  const asItIs = loadConfig({ text: renderSample() });
  assert.ok(asItIs.ok);
  assert.deepEqual(asItIs.warnings, []);
  assert.deepEqual(asItIs.config, defaultConfig());

  const everything = renderSample().replace(/^( *)#(?=[a-z0-9_]+: |\})/gm, "$1");
  const result = loadConfig({ text: everything });
  assert.ok(result.ok, result.ok ? "" : result.mistakes.join("\n"));
  assert.deepEqual(result.warnings, []);
  assert.deepEqual(result.config, defaultConfig({ max_connections: 10_000 }));
  for (const name of KEY_NAMES) {
    const leaf = name.slice(name.indexOf(".") + 1);
    assert.match(everything, new RegExp(`^ +${leaf}: `, "m"), name);
  }
});

Deno.test("the reference names every key once", () => {
  const text = renderMarkdown();
  for (const name of KEY_NAMES) assert.equal(text.split(`\n| \`${name}\` `).length, 2, name);
});
