// Every transcript in the documents is what really happens.

import assert from "node:assert/strict";
import { DevCluster } from "./dev_cluster.ts";
import { pushdCommand, startPushd } from "./harness.ts";
import { openTcpTerminal } from "./harness_terminal.ts";
import { readTranscripts, replay, type Transcripts } from "./harness_transcript.ts";
import { requireTool } from "./require.ts";

const ROOT = new URL("../", import.meta.url);

/** The name that documents give to a node. */
const DOCUMENTED_NODE = "myhost:2222";

/** Replays all of a document's transcripts. */
async function replayAll({ scenes, strays }: Transcripts): Promise<void> {
  assert.deepEqual(strays, []);
  for (const scene of scenes) {
    if (scene.nodes > 0) {
      await using cluster = await DevCluster.start(scene.nodes);
      await replay(scene, { servers: cluster.nodes, open: openTcpTerminal });
      continue;
    }
    const config = scene.config ?? "{}";
    await using pushd = await startPushd({
      config,
      env: {
        PUSHD_NODE_ID: DOCUMENTED_NODE,
        PUSHD_TCP_LISTEN_ADDR: "127.0.0.1:0",
        PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
      },
    });
    const { port, statsPort, folder: cwd } = pushd;
    const bin = await makeBin(cwd);
    const servers = [{ port, statsPort }];
    await replay(scene, { servers, open: openTcpTerminal, cwd, bin });
  }
}

/** A folder with a program `pushd` as documents call it. */
async function makeBin(folder: string): Promise<string> {
  const bin = `${folder}/bin`;
  await Deno.mkdir(bin);
  const command = pushdCommand().map((word) => `'${word}'`).join(" ");
  await Deno.writeTextFile(`${bin}/pushd`, `#!/bin/sh\nexec ${command} "$@"\n`, { mode: 0o755 });
  return bin;
}

const documents = [
  "README.md",
  ...[...Deno.readDirSync(new URL("docs/", ROOT))]
    .map(({ name }) => name)
    .filter((name) => name.endsWith(".md"))
    .sort()
    .map((name) => `docs/${name}`),
];
for (const document of documents) {
  const transcripts = readTranscripts(Deno.readTextFileSync(new URL(document, ROOT)));
  const runs = transcripts.scenes.flatMap(({ steps }) => steps).some(({ kind }) => kind === "run");
  const tools = runs ? requireTool("curl", "nc") : { ignore: false, reason: "" };
  Deno.test({
    name: `the transcripts in ${document} are what happens${tools.reason}`,
    ignore: tools.ignore,
    fn: () => replayAll(transcripts),
  });
}

Deno.test("the README has transcripts of telnet, nc and curl", () => {
  const { scenes } = readTranscripts(Deno.readTextFileSync(new URL("README.md", ROOT)));
  const steps = scenes.flatMap(({ steps }) => steps);
  assert.ok(steps.some(({ kind }) => kind === "print"));
  const commands = steps.flatMap((step) => step.kind === "run" ? [step.command] : []).join("\n");
  assert.match(commands, /\bnc\b/);
  assert.match(commands, /\bcurl\b/);
});

function block(info: string, ...lines: string[]): string {
  return ["", "```" + info, ...lines, "```", ""].join("\n");
}

const CONNECTING = [
  "$ telnet localhost 2222",
  "Trying 127.0.0.1...",
  "Connected to localhost.",
  "Escape character is '^]'.",
];
const TOKEN = "A".repeat(43);
const GOOD = [
  "# A title",
  "<!-- a remark -->",
  block("telnet A", ...CONNECTING, "sub c", "SUBSCRIBED c"),
  "Text between, with `SUBSCRIBED c` in it.",
  block(
    "telnet B",
    ...CONNECTING,
    "pub c hello",
    "PUBLISHED 1795610684361074",
    "his c 1795610684361075",
    "HISTORY c []",
    "hlep",
    'ERROR unknown-command "hlep" …',
    "gettoken bob",
    `TOKEN bob ${TOKEN}`,
    `auth bob ${TOKEN}`,
    "AUTHENTICATED bob",
    "quit",
    "BYE",
    "Connection closed by foreign host.",
  ),
  block("telnet A", "MESSAGE c 1795610684361074 hello"),
  "## A heading",
  block(
    "sh",
    "$ printf 'a %s\\n' \\",
    "  b c",
    "a b",
    "a c",
    "$ echo 2222 1795610684361074 >&2",
    "…",
  ),
  block("telnet B", ...CONNECTING, "quit", "BYE", "Connection closed by foreign host."),
  block("sh", "apt-get install telnet"),
  "    npx -y deno@2.9.6 task start",
].join("\n");

/** What is changed in {@link GOOD}, and what the replay says then. */
const CHANGES: [string, string | RegExp, string, RegExp][] = [
  ["a word that is printed", "SUBSCRIBED c\n", "SUBSCRIBES c\n", /line 10: the document says/],
  ["a word that is typed", "pub c hello\n", "pub c hallo\n", /line 37: .*MESSAGE c \d{16} hallo/s],
  ["a line of telnet", "Connected to localhost.", "Connected to there.", /line 7: /],
  ["another timestamp for the same", /4361074 hello/, "4361079 hello", /the document says/],
  ["the same timestamp for another", "PUBLISHED", "hello 1\nPUBLISHED", /the document says/],
  ["an error that is another", "unknown-command", "unknown-comment", /the document says/],
  ["a line that is not printed", "\nBYE", "\nBYE\nPONG", /the document says\n {2}PONG/],
  ["a line that is left out, at the end", /MESSAGE.*\n/, "", /A also shows: MESSAGE c/],
  ["a line that is left out, amid", "AUTHENTICATED bob\n", "", /the document says\n {2}BYE/],
  [
    "a session that goes on behind a heading",
    "## A heading",
    `## A heading\n${block("telnet A", "ping")}`,
    /A has not been started/,
  ],
  ["a start that is left out", "$ telnet localhost 2222\nT", "T", /A has not been started/],
  ["a second start", /MESSAGE.*/, "$ telnet localhost 2222", /A has not ended/],
  ["a word that a command prints", "a b\n", "a B\n", /the document says\n {2}a B/],
  ["a line that a command prints", "a b\n", "", /the document says\n {2}a c\n/],
  ["a line that a command does not print", "a c\n", "a c\na d\n", /does not print: a d/],
  ["the last line of a command", "\n…\n", "\n", /it also prints: \d+ 1795610684361074/],
];

Deno.test("a transcript that is right passes, and one with any change does not", async (t) => {
  await using pushd = await startPushd();
  const { port, statsPort } = pushd;
  const replayText = async (text: string): Promise<void> => {
    const { scenes, strays } = readTranscripts(text);
    assert.deepEqual(strays, []);
    assert.equal(scenes.length, 1);
    await replay(scenes[0], { servers: [{ port, statsPort }], open: openTcpTerminal });
  };
  await t.step("as it is", () => replayText(GOOD));
  for (const [what, from, to, message] of CHANGES) {
    await t.step(what, async () => {
      const changed = GOOD.replace(from, () => to);
      assert.notEqual(changed, GOOD);
      await assert.rejects(replayText(changed), { message });
    });
  }
});

Deno.test("what looks like a transcript and is not replayed is found", () => {
  const straysOf = (text: string) => readTranscripts(text).strays;
  assert.deepEqual(straysOf(GOOD), []);
  for (
    const stray of [
      block("", "PUBLISHED 1795610684361074"),
      block("text", "pub c x", "ERROR bad-message …"),
      block("console", "$ curl localhost:9020/s/ping"),
      block("sh", "pub c x", "PUBLISHED 1795610684361074"),
      block("sh", "$ rm -rf /"),
      block("telnet A", "$ nc localhost 2222"),
      block("telnet A", ...CONNECTING, "", "sub c"),
      "\n\n    sub c\n    SUBSCRIBED c\n",
      "\n- a list\n\n  ```\n  SUBSCRIBED c\n  ```\n",
    ]
  ) {
    assert.equal(straysOf(stray).length, 1, stray);
    assert.deepEqual(straysOf(`<!-- not replayed: it takes an hour -->\n${stray}`), []);
    // Only the block behind the comment is left out.
    assert.equal(
      straysOf(`<!-- not replayed: it takes an hour -->\n${stray}\ntext\n${stray}`).length,
      1,
    );
  }
});

Deno.test("a comment starts another server", async () => {
  const session = (...lines: string[]) => block("telnet A", ...CONNECTING, ...lines);
  const transcripts = readTranscripts([
    session("sub c", "SUBSCRIBED c"),
    "<!-- pushd: {",
    '  auth: "on"',
    "} -->",
    session("sub c", "ERROR need-auth …"),
    "<!-- pushd: {} -->",
    session("sub c", "SUBSCRIBED c"),
  ].join("\n"));
  assert.equal(transcripts.scenes.length, 3);
  await replayAll(transcripts);
});
