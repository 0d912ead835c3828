// Tests of check-config.

import assert from "node:assert/strict";
import { checkConfig } from "./check_config.ts";

/** Runs check-config on a file with `text`; the folder is left out of what it prints. */
async function check(text: string, env: Record<string, string> = {}) {
  const folder = await Deno.makeTempDir({ prefix: "pushd-check-" });
  try {
    await Deno.writeTextFile(`${folder}/pushd.cf`, text);
    const out: string[] = [];
    const err: string[] = [];
    const code = checkConfig(`${folder}/pushd.cf`, env, {
      out: (line) => out.push(line.replaceAll(`${folder}/`, "")),
      err: (line) => err.push(line.replaceAll(`${folder}/`, "")),
    });
    return { code, out, err };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("checkConfig: a good file", async () => {
  assert.deepEqual(await check("auth: off\n"), { code: 0, out: ["pushd.cf: ok"], err: [] });
});

Deno.test("checkConfig: warnings are printed and change nothing", async () => {
  const { code, out, err } = await check("auht: off\n");
  assert.deepEqual([code, out], [0, ["pushd.cf: ok"]]);
  assert.deepEqual(err, [
    'warning: pushd.cf:1: auht: unknown key, left out; the nearest known name is "auth"',
  ]);
});

Deno.test("checkConfig: every mistake, of the environment too, and their number", async () => {
  const { code, out, err } = await check("auth: maybe\n", { PUSHD_TOKEN_TTL: "5" });
  assert.deepEqual([code, out], [2, []]);
  assert.equal(err.length, 3);
  assert.match(err[0], /^pushd\.cf:1: auth: /);
  assert.match(err[1], /^PUSHD_TOKEN_TTL: /);
  assert.equal(err[2], "pushd.cf: 2 mistakes");
  assert.equal((await check("auth: maybe")).err.at(-1), "pushd.cf: 1 mistake");
});
