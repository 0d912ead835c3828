// scripts/install.sh, against releases that are as they should be and others.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { requireTool } from "./require.ts";

const SCRIPT = new URL("../scripts/install.sh", import.meta.url).pathname;
/** Stands for the program. */
const PROGRAM = "#!/bin/sh\necho pushd 9.9.9\n";
const NAMES = ["pushd.linux", "pushd.linux-arm64", "pushd.mac", "pushd.mac-x64"];

function sums(program: string): string {
  const sum = createHash("sha256").update(program).digest("hex");
  return NAMES.map((name) => `${sum}  ${name}\n`).join("");
}

/** Installs what is served into a new folder; what the script said, and what is in the folder then. */
async function install(files: Record<string, string>): Promise<{
  code: number;
  text: string;
  there: string[];
}> {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const body = files[new URL(request.url).pathname.slice("/v1/".length)];
    return body === undefined ? new Response("no", { status: 404 }) : new Response(body);
  });
  const home = await Deno.makeTempDir({ prefix: "pushd-install-" });
  try {
    const { code, stdout, stderr } = await new Deno.Command("sh", {
      args: [SCRIPT],
      clearEnv: true,
      env: {
        HOME: home,
        PATH: Deno.env.get("PATH") ?? "",
        PUSHD_RELEASES: `http://127.0.0.1:${server.addr.port}/v1`,
      },
    }).output();
    const decoder = new TextDecoder();
    const text = decoder.decode(stdout) + decoder.decode(stderr);
    const there = [...Deno.readDirSync(`${home}/.local/bin`)].map(({ name }) => name);
    return { code, text, there };
  } finally {
    await Deno.remove(home, { recursive: true });
    await server.shutdown();
  }
}

const curl = requireTool("curl");

Deno.test({
  name: `install.sh: puts the program in place where its sum is right${curl.reason}`,
  ignore: curl.ignore,
  fn: async () => {
    const programs = Object.fromEntries(NAMES.map((name) => [name, PROGRAM]));
    const good = await install({ ...programs, SHA256SUMS: sums(PROGRAM) });
    assert.equal(good.code, 0, good.text);
    assert.match(good.text, /\npushd 9\.9\.9\ninstalled: \S+\/\.local\/bin\/pushd\n/);
    assert.deepEqual(good.there, ["pushd"]);
  },
});

Deno.test({
  name: `install.sh: leaves nothing behind where anything is wrong${curl.reason}`,
  ignore: curl.ignore,
  fn: async () => {
    const programs = Object.fromEntries(NAMES.map((name) => [name, PROGRAM]));
    const broken = "#!/bin/sh\nexit 1\n";
    for (
      const [what, files, says] of [
        ["another program", { ...programs, SHA256SUMS: sums(broken) }, /is not what SHA256SUMS/],
        ["no sums", programs, /SHA256SUMS cannot be had/],
        ["no sum for it", { ...programs, SHA256SUMS: "00  pushd.other\n" }, /has no sum for/],
        ["no program", { SHA256SUMS: sums(PROGRAM) }, /cannot be had/],
        [
          "a program that does not run",
          {
            ...Object.fromEntries(NAMES.map((name) => [name, broken])),
            SHA256SUMS: sums(broken),
          },
          /does not run on this system/,
        ],
      ] as const
    ) {
      const { code, text, there } = await install(files);
      assert.equal(code, 1, what);
      assert.match(text, says, what);
      assert.deepEqual(there, [], what);
    }
  },
});
