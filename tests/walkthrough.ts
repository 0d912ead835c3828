// The README's first minute with telnet.

import assert from "node:assert/strict";
import { readTranscripts, type Scene } from "./harness_transcript.ts";

/** Reads it, without what it runs in a shell; the server's node is to be called `myhost:2222`. */
export async function firstMinute(): Promise<Scene> {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const { scenes } = readTranscripts(readme);
  const steps = scenes[0].steps.filter(({ kind }) => kind !== "run");
  const texts = steps.flatMap((step) => "text" in step ? [step.text] : []);
  assert.ok(texts.every((text) => !text.includes("…")), "the walkthrough leaves nothing out");
  const starts = steps.filter(({ kind }) => kind === "start");
  assert.ok(starts.length >= 2, "the walkthrough has two telnet sessions");
  assert.ok(texts.some((text) => text.startsWith("MESSAGE ")), "a message is seen");
  return { config: null, nodes: 0, steps };
}
