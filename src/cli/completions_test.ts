// Completions as a real bash makes them; of the other shells, that they name what there is.

import assert from "node:assert/strict";
import { parseArgs } from "./args.ts";

function script(shell: string): string {
  const parsed = parseArgs(["completions", shell]);
  assert.ok(parsed.command === "completions");
  return parsed.script;
}

/** What bash offers for the last of these words. */
async function offered(...words: string[]): Promise<string[]> {
  const { success, stdout, stderr } = await new Deno.Command("bash", {
    args: [
      "--norc",
      "-c",
      `${script("bash")}
       COMP_WORDS=(pushd "$@"); COMP_CWORD=$#; _pushd; printf '%s\\n' "\${COMPREPLY[@]}"`,
      "bash",
      ...words,
    ],
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).split("\n").filter((word) => word !== "");
}

Deno.test("completions: bash offers commands, options and their values", async () => {
  assert.deepEqual(await offered("sto"), ["storage"]);
  assert.deepEqual(await offered("check-config", "LICEN"), ["LICENSE"]);
  assert.deepEqual(await offered("sub", "--serv"), ["--server"]);
  assert.deepEqual(await offered("--level", ""), ["debug", "info", "warn", "error"]);
  assert.deepEqual(await offered("dev-cluster", "--level", "w"), ["warn"]);
  assert.deepEqual(await offered("storage", "e"), ["export"]);
  assert.deepEqual(await offered("storage", "export", "--co"), ["--conf"]);
  assert.deepEqual(await offered("pub", "--server", ""), []);
  const all = await offered("");
  for (const word of ["serve", "sub", "top", "version", "--conf"]) {
    assert.ok(all.includes(word), word);
  }
});

Deno.test("completions: every shell's text has every command", () => {
  const help = parseArgs(["help"]);
  assert.ok(help.command === "help");
  const names = [...help.text.matchAll(/^ {2}([a-z-]+) {2,}/gm)].map(([, name]) => name);
  assert.ok(names.length > 10);
  for (const shell of ["bash", "zsh", "fish"]) {
    const text = script(shell);
    for (const name of names) assert.match(text, new RegExp(`\\b${name}\\b`), `${shell} ${name}`);
    assert.doesNotMatch(text, /undefined|\[object/);
  }
});

Deno.test("completions: another shell is a usage error that names those there are", () => {
  const parsed = parseArgs(["completions", "tcsh"]);
  assert.ok(parsed.command === "usage_error");
  assert.match(parsed.message, /bash, zsh, fish/);
});
